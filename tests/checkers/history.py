# SPDX-License-Identifier: Apache-2.0
"""A history: what each client asked, when, and what it was told.

An operation is one line of JSON. Times are nanoseconds of one monotonic clock, so all clients of a history
run on one machine. The outcome is

    ok        it was answered; `result` is the answer
    fail      it certainly had no effect: it was refused, or never sent
    unknown   nobody knows: the connection broke, or no answer came in time. It may have taken effect
              at any moment after its start, also long after its client gave up, or never.

Calling something `fail` that had an effect makes checks report errors that are none; calling something `unknown`
that had none only makes them weaker. In doubt it is unknown.
"""
import dataclasses
import json
import threading
import time

OK = "ok"
FAIL = "fail"
UNKNOWN = "unknown"
SHOWN_ITEMS_MAX = 8


@dataclasses.dataclass
class Operation:
    """`action` and what it is applied to; see the checks for the actions that each of them understands."""

    client: int
    action: str
    key: str = ""
    arguments: tuple = ()
    start: int = 0
    end: int | None = None  # None: there was no answer.
    outcome: str = OK
    result: object = None
    number: int = 0  # Line in the history, from 1.

    def __str__(self):
        """As in `line 12, client 3: set r1 17 = True`."""
        words = [self.action, self.key] + [str(argument) for argument in self.arguments]
        told = {OK: f"= {short(self.result)}", FAIL: "= refused", UNKNOWN: "= ?"}[self.outcome]
        return f"line {self.number}, client {self.client}: {' '.join(word for word in words if word)} {told}"


def short(value):
    """As repr(), but of a long list only both ends."""
    if not isinstance(value, (list, tuple)):
        return repr(value)
    shown = [short(item) for item in value]
    if len(shown) > SHOWN_ITEMS_MAX:
        shown = shown[:2] + [f"… {len(value) - SHOWN_ITEMS_MAX + 2} more …"] + shown[2 - SHOWN_ITEMS_MAX + 2:]
    return "[" + ", ".join(shown) + "]"


def to_line(operation):
    fields = dataclasses.asdict(operation)
    del fields["number"]
    return json.dumps(fields, separators=(",", ":"))


def from_line(line, number):
    fields = json.loads(line)
    fields["arguments"] = tuple(_frozen(argument) for argument in fields["arguments"])
    return Operation(**fields, number=number)


def _frozen(value):
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def save(operations, path):
    with open(path, "w", encoding="utf-8") as file:
        for operation in operations:
            file.write(to_line(operation) + "\n")


def load(path):
    with open(path, encoding="utf-8") as file:
        return numbered(from_line(line, 0) for line in file if line.strip())


def numbered(operations):
    """Number the operations as the lines of the file that save() would write."""
    operations = list(operations)
    for number, operation in enumerate(operations, 1):
        operation.number = number
    return operations


class Unknown(Exception):
    """Raised within a recorded operation: its outcome is unknown."""


class Refused(Exception):
    """Raised within a recorded operation: it certainly had no effect."""


class Recorder:
    """Collects the operations of many threads."""

    def __init__(self):
        self.operations = []
        self.lock = threading.Lock()

    def run(self, client, action, key, arguments, function):
        """Call function() and write down what came of it; its result, or None when there was none."""
        operation = Operation(client, action, key, tuple(arguments), time.monotonic_ns())
        try:
            operation.result = function()
            operation.end = time.monotonic_ns()
        except Refused:
            operation.end = time.monotonic_ns()
            operation.outcome = FAIL
        except Unknown:
            operation.outcome = UNKNOWN
        with self.lock:
            self.operations.append(operation)
        return operation

    def history(self):
        """All operations so far, by their start."""
        with self.lock:
            return numbered(sorted(self.operations, key=lambda operation: operation.start))
