# SPDX-License-Identifier: Apache-2.0
"""Does a counter count each acknowledged increment once, and no other twice?

Actions:

    incr N    N is not negative; the result is the value after it
    get       the value; None is 0

Any value that is seen, by `get` or as the answer of `incr`, lies between

    the sum of what was acknowledged before the question was asked, and
    the sum of what was asked, with whatever outcome but `fail`, before the answer came.

This is weaker than linearizability, and takes a moment where histories are long. Where every operation is done
and the key is read at last, it says that the value is what was acknowledged plus at most what is unknown.
"""
import bisect
import collections
import itertools

from . import history


class Violation:
    def __init__(self, key, text):
        self.key = key
        self.text = text

    def __str__(self):
        return self.text


def check(operations):
    by_key = collections.defaultdict(list)
    for operation in operations:
        if operation.outcome != history.FAIL:
            by_key[operation.key].append(operation)
    return [violation for key in sorted(by_key) for violation in check_key(key, by_key[key])]


def check_key(key, operations):
    increments = [operation for operation in operations if operation.action == "incr"]
    acknowledged = _Sums((operation.end, int(operation.arguments[0])) for operation in increments
                         if operation.outcome == history.OK)
    asked = _Sums((operation.start, int(operation.arguments[0])) for operation in increments)
    violations = []
    for operation in operations:
        if operation.outcome != history.OK:
            continue
        value = int(operation.result or 0)
        own = int(operation.arguments[0]) if operation.action == "incr" else 0
        low = acknowledged.until(operation.start - 1) + own
        high = asked.until(operation.end)
        if not low <= value <= high:
            told = (f"{low} was acknowledged before it was asked: acknowledged increments are lost" if value < low
                    else f"only {high} was asked for until then: increments were counted twice")
            violations.append(Violation(key, f"key {key}: {operation}, but {told}"))
    return violations


class _Sums:
    """The sum of amounts up to and including a time."""

    def __init__(self, pairs):
        pairs = sorted(pairs)
        self.times = [at for at, _ in pairs]
        self.sums = [0] + list(itertools.accumulate(amount for _, amount in pairs))

    def until(self, at):
        return self.sums[bisect.bisect_right(self.times, at)]
