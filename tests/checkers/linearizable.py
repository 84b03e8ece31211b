# SPDX-License-Identifier: Apache-2.0
"""Is the history of each key that of one register? (Wing and Gong's search with Lowe's memory.)

Actions, with Redis's answers. Values are compared as text; a key that does not exist has the value None:

    get                      the value
    set VALUE [OPTION...]    True, or None when NX or XX forbade it; with GET the old value. Options: NX XX GET
    getset VALUE             the old value
    incr N                   the new value
    del                      1, or 0 when there was nothing

The search (Wing and Gong's) builds an order that explains every answer, in which an operation that began
after another had ended comes after it. It takes one that could come next, goes on, and goes back when
nothing fits. A place once left in vain, that is which operations are in the order already and the value after
them, is remembered and never entered again (Lowe). On top of that it need not try much, for

    - an operation that fits and by its answer changed nothing may come at once, whatever comes later;
    - of operations that are alike, answer included, the one that ends first comes first;
    - while answers are left that tell the present value, and nobody will write it again, it stays;
    - a write of a value that nobody ever saw may come right before another write that does not care what
      was there, once no answer is left that tells whether there was something.

Operations of unknown outcome may come anywhere after their start, or not at all. Hundreds of them are no
burden either:

    - They are tried last.
    - Those that are alike are taken by their start; writes of values that nobody saw are alike.
    - None comes right before a write that does not care what was there: it may as well not come.
    - A place that was left in vain is as vain with more of the unknown ones used up.
"""
import collections

from . import history

STEPS_MAX = 2_000_000  # A minute or so, a gigabyte.


class Violation:
    """No order explains the answers about `key`; or, when `is_decided` is false, the search was given up."""

    def __init__(self, key, text, is_decided=True):
        self.key = key
        self.text = text
        self.is_decided = is_decided

    def __str__(self):
        return self.text


def apply(value, action, arguments):
    """(the value afterwards, the answer) of an operation on a register; values are text, or None."""
    if action == "get":
        return value, value
    if action == "set":
        written, options = arguments[0], arguments[1:]
        forbidden = ("NX" in options and value is not None) or ("XX" in options and value is None)
        answer = value if "GET" in options else (None if forbidden else True)
        return (value if forbidden else written), answer
    if action == "getset":
        return arguments[0], value
    if action == "incr":
        number = str(int(value or 0) + int(arguments[0]))
        return number, number
    if action == "del":
        return None, "0" if value is None else "1"
    raise ValueError(f"no action {action!r} on a register")


def check(operations, steps_max=STEPS_MAX):
    """The violations, at most one for each key. Operations with actions of other checks do not belong here."""
    by_key = collections.defaultdict(list)
    for operation in operations:
        by_key[operation.key].append(operation)
    found = [check_key(key, by_key[key], steps_max) for key in sorted(by_key)]
    return [violation for violation in found if violation is not None]


def check_key(key, operations, steps_max=STEPS_MAX):
    return _Search(key, operations).run(steps_max)


class _Unseen:
    """The value of all writes whose value no answer ever contained."""

    def __repr__(self):
        return "(a value that nobody saw)"


UNSEEN = _Unseen()


def _text(value):
    return value if value is None or value is True else str(value)


def _with_text(operations):
    """[(operation, its arguments, its answer)] as text; values that no answer contains become UNSEEN."""
    seen = {_text(operation.result) for operation in operations if operation.outcome == history.OK}
    is_counted = any(operation.action == "incr" for operation in operations)
    result = []
    for operation in operations:
        arguments = tuple(_text(argument) for argument in operation.arguments)
        if operation.action in ("set", "getset") and not is_counted and arguments[0] not in seen:
            arguments = (UNSEEN,) + arguments[1:]
        result.append((operation, arguments, _text(operation.result)))
    return result


# In place of a value, for operations without an answer that tells one, or that write none.
NOT_TOLD = object()


def _value_told(operation, arguments, result):
    """The value before the operation, if its answer says it."""
    if operation.outcome == history.OK:
        if operation.action in ("get", "getset") or (operation.action == "set" and "GET" in arguments):
            return result
    return NOT_TOLD


def _value_written(operation, arguments):
    if operation.action in ("set", "getset"):
        return arguments[0]
    return None if operation.action == "del" else NOT_TOLD


def _is_blind(operation, arguments):
    """The value after it does not depend on the one before, and neither does an answer that anybody knows."""
    if operation.outcome == history.UNKNOWN:
        return operation.action in ("getset", "del") or (
            operation.action == "set" and "NX" not in arguments and "XX" not in arguments)
    return operation.action == "set" and len(arguments) == 1


def _is_pure(operation, arguments, result):
    """An operation with this answer changed nothing, whatever was there."""
    if operation.action == "set":
        if "GET" in arguments:
            return (result is None) if "XX" in arguments else ("NX" in arguments and result is not None)
        return result is None
    return operation.action == "get" or (operation.action == "del" and result == "0")


def _is_conditional(operation, arguments):
    return operation.action == "del" or (operation.action == "set" and "GET" not in arguments and len(arguments) > 1)


class _Search:
    """The order is built from the front. `known` have an end and must all get in; `unknown` may.
    A step of the search is (is it known, its index or class, the value after it)."""

    def __init__(self, key, operations):
        self.key = key
        operations = [operation for operation in operations if operation.outcome != history.FAIL]
        triples = sorted(_with_text(operations), key=lambda triple: triple[0].start)
        self.known = [triple for triple in triples if triple[0].outcome == history.OK]
        # Alike are those with the same action and arguments: lists by start.
        classes = collections.defaultdict(list)
        for operation, arguments, _ in triples:
            if operation.outcome == history.UNKNOWN and operation.action != "get":
                classes[operation.action, arguments].append((operation, arguments))
        self.classes = [classes[name] for name in sorted(classes, key=repr)]
        self.taken = [0] * len(self.classes)
        self.make_list()
        # How many operations, not yet in the order, were answered with this value as the one before
        # them, and how many might still write it. Increments write what is hard to tell.
        self.readers = collections.Counter(_value_told(*triple) for triple in self.known)
        self.writers = collections.Counter(_value_written(*triple[:2]) for triple in triples)
        # And how many were told, or told by what they did, only whether there was a value.
        self.conditions = sum(_is_conditional(*triple[:2]) for triple in self.known)
        self.is_counter = any(operation.action == "incr" for operation, _, _ in triples)
        # What is in the order already: all known before `base`, and a bit for each from there on.
        self.base = 0
        self.bits = 0
        self.value = None
        self.path = []
        self.visited = {}
        self.best = None

    def make_list(self):
        """A list of the starts and ends of the known that are not yet in the order, linked both ways. Node 0 is
        before all; node n is event n - 1. When times are equal a start comes first: then the two overlap."""
        events = []
        for index, (operation, _, _) in enumerate(self.known):
            events.append((operation.start, 0, index))
            events.append((operation.end, 1, index))
        events.sort()
        self.event_index = [None] + [index for _, _, index in events]
        self.event_is_end = [None] + [bool(is_end) for _, is_end, _ in events]
        self.after = list(range(1, len(events) + 1)) + [0]
        self.before = [len(events)] + list(range(len(events)))
        self.nodes = [[0, 0] for _ in self.known]
        for node in range(1, len(events) + 1):
            self.nodes[self.event_index[node]][self.event_is_end[node]] = node

    def run(self, steps_max):
        remaining = len(self.known)
        choices = [self.choices()] if remaining else []
        steps = 0
        while choices:
            if not choices[-1]:
                choices.pop()
                self.remember_best(len(self.known) - remaining)
                if self.path:
                    remaining += self.undo()
                continue
            step = choices[-1].pop(0)
            if self.is_vain(step):
                continue
            steps += 1
            if steps > steps_max:
                return Violation(self.key, f"key {self.key}: given up after {steps_max} steps with "
                                 f"{len(self.known)} operations", is_decided=False)
            remaining -= self.do(step)
            if remaining == 0:
                return None
            choices.append(self.choices())
        return Violation(self.key, self.explain()) if remaining else None

    # ---- what can come next ----------------------------------------------------------------------------

    def candidates(self):
        """The known that begin before the first end among those that are left; and that end."""
        indexes = []
        node = self.after[0]
        while not self.event_is_end[node]:
            indexes.append(self.event_index[node])
            node = self.after[node]
        return indexes, self.known[self.event_index[node]][0].end

    def choices(self):
        """The steps that are worth trying, the most promising first."""
        indexes, bound = self.candidates()
        fitting = []
        for index in indexes:
            operation, arguments, result = self.known[index]
            value, answer = apply(self.value, operation.action, arguments)
            if answer != result:
                continue
            if _is_pure(operation, arguments, result):
                return [(True, index, value)]
            if self.may_change(_value_told(operation, arguments, result)) and self.may_follow(operation, arguments):
                fitting.append((operation.end, index, value))
        fitting.sort(key=lambda item: item[0])
        steps = {}
        for _, index, value in fitting:
            operation, arguments, result = self.known[index]
            steps.setdefault((operation.action, arguments, result), (True, index, value))
        unseen = steps.get(("set", (UNSEEN,), True))
        if unseen and self.conditions == 0:
            # It may come before any that is blind.
            return [unseen] + [step for step in steps.values() if not _is_blind(*self.known[step[1]][:2])] + (
                self.unknown_choices(bound))
        return list(steps.values()) + self.unknown_choices(bound)

    def unknown_choices(self, bound):
        steps = []
        for index, alike in enumerate(self.classes):
            taken = self.taken[index]
            if taken == len(alike) or alike[taken][0].start > bound:
                continue
            operation, arguments = alike[taken]
            value, _ = apply(self.value, operation.action, arguments)
            if value != self.value and self.may_change(NOT_TOLD) and self.may_follow(operation, arguments):
                steps.append((False, index, value))
        return steps

    def may_change(self, told):
        """Nobody is left who needs the present value, but perhaps the one that changes it."""
        left = self.readers[self.value] - (told == self.value)
        return left == 0 or self.writers[self.value] > 0 or self.is_counter

    def may_follow(self, operation, arguments):
        """An unknown operation before it would not have been in vain."""
        return not self.path or self.path[-1][1][0] or not _is_blind(operation, arguments)

    def is_vain(self, step):
        """Has the search been at the place after this step, or where it could do more? If not, it is now."""
        is_known, index, value = step
        taken = tuple(self.taken)
        place = (self.base, self.bits, value, is_known)
        if is_known:
            place = self.with_known(index) + (value, is_known)
        else:
            taken = taken[:index] + (taken[index] + 1,) + taken[index + 1:]
        others = self.visited.setdefault(place, [])
        if any(all(map(int.__le__, other, taken)) for other in others):
            return True
        others.append(taken)
        return False

    # ---- one step, and back ----------------------------------------------------------------------------

    def with_known(self, index):
        bits = self.bits | 1 << (index - self.base)
        ones = (bits ^ (bits + 1)).bit_length() - 1  # At the low end.
        return self.base + ones, bits >> ones

    def is_in(self, index):
        """Is this known operation in the order?"""
        return index < self.base or bool(self.bits >> (index - self.base) & 1)

    def count(self, step, amount):
        is_known, index, _ = step
        if is_known:
            self.readers[_value_told(*self.known[index])] += amount
            self.writers[_value_written(*self.known[index][:2])] += amount
            self.conditions += amount * _is_conditional(*self.known[index][:2])
        else:
            self.writers[_value_written(*self.classes[index][0])] += amount

    def do(self, step):
        is_known, index, value = step
        operation = self.known[index][0] if is_known else self.classes[index][self.taken[index]][0]
        self.path.append((operation, step, self.value, self.base, self.bits))
        self.count(step, -1)
        self.value = value
        if not is_known:
            self.taken[index] += 1
            return 0
        self.base, self.bits = self.with_known(index)
        for node in self.nodes[index]:
            self.after[self.before[node]] = self.after[node]
            self.before[self.after[node]] = self.before[node]
        return 1

    def undo(self):
        _, step, self.value, self.base, self.bits = self.path.pop()
        is_known, index, _ = step
        self.count(step, 1)
        if not is_known:
            self.taken[index] -= 1
            return 0
        for node in reversed(self.nodes[index]):
            self.after[self.before[node]] = node
            self.before[self.after[node]] = node
        return 1

    # ---- what to say -----------------------------------------------------------------------------------

    def remember_best(self, known):
        """The longest order so far, for the explanation."""
        if self.best is None or known > self.best[0]:
            waiting = [self.known[index][0] for index in self.candidates()[0]]
            last = [place[0] for place in self.path[-5:]]
            readers = []
            if not self.may_change(NOT_TOLD):
                readers = [triple[0] for index, triple in enumerate(self.known)
                           if not self.is_in(index) and _value_told(*triple) == self.value]
            self.best = (known, self.value, last, waiting, readers[:5])

    def explain(self):
        known, value, last, waiting, readers = self.best
        lines = [f"key {self.key}: no order of its operations explains the answers. The longest that was found has "
                 f"{known} of {len(self.known)}, and ends with"]
        lines += [f"    {operation}" for operation in last] or ["    (nothing)"]
        lines.append(f"  The value is then {value!r}. One of these has to be next, and none can:")
        lines += [f"    {operation}" for operation in waiting]
        if readers:
            lines.append("  The value may not change before these, which were told it, and nobody writes it again:")
            lines += [f"    {operation}" for operation in readers]
        return "\n".join(lines)
