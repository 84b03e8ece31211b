# SPDX-License-Identifier: Apache-2.0
"""The bounds of counters, on histories whose verdict is known."""
import random

import pytest

from checkers import counters, history
from checkers.history import FAIL, OK, UNKNOWN, Operation


def incr(start, end, result=None, outcome=OK, amount=1):
    return Operation(0, "incr", "c", (amount,), start, end, outcome, result)


def get(start, end, result):
    return Operation(1, "get", "c", (), start, end, OK, result)


def verdict(*operations):
    return [str(violation) for violation in counters.check(history.numbered(operations))]


def test_a_value_between_the_bounds_passes():
    """What is acknowledged counts; what is under way or unknown may count."""
    assert verdict(incr(0, 10, 1), get(20, 30, "1")) == []
    assert verdict(incr(0, 10, 1), incr(5, None, outcome=UNKNOWN), get(20, 30, "2")) == []
    assert verdict(incr(0, 10, 1), incr(5, None, outcome=UNKNOWN), get(20, 30, "1")) == []
    assert verdict(incr(0, 40, 1), get(20, 30, None)) == []
    assert verdict(incr(0, 40, 1), get(20, 30, "1")) == []


def test_a_lost_increment_is_found():
    text, = verdict(incr(0, 10, 1), incr(20, 30, 2), get(40, 50, "1"))
    assert "line 3, client 1: get c = '1'" in text and "lost" in text


def test_an_increment_that_counts_twice_is_found():
    text, = verdict(incr(0, 10, 1), incr(15, None, outcome=UNKNOWN), get(20, 30, "3"))
    assert "twice" in text


def test_a_refused_increment_does_not_count():
    text, = verdict(incr(0, 10, outcome=FAIL), get(20, 30, "1"))
    assert "twice" in text


def test_the_answer_of_an_increment_is_a_value_too():
    """It contains the increment itself, and all that were acknowledged before."""
    assert len(verdict(incr(0, 10, 1), incr(20, 30, 1))) == 1
    assert len(verdict(incr(0, 10, 5))) == 1
    assert verdict(incr(0, 10, 5, amount=5), incr(20, 30, 7, amount=2)) == []


@pytest.mark.parametrize("seed", range(20))
def test_what_a_correct_counter_does_passes_and_a_wrong_one_does_not(seed):
    """Increments that overlap, some of unknown outcome, and reads; then one acknowledged one is lost."""
    rng = random.Random(seed)
    for is_lost in (False, True):
        value = 0
        operations = []
        lost = rng.randrange(100) if is_lost else None
        for number in range(100):
            start = number * 10
            if rng.random() < 0.2 and number != lost:
                value += rng.random() < 0.5
                operations.append(incr(start, None, outcome=UNKNOWN))
            else:
                value += number != lost
                operations.append(incr(start, start + rng.randrange(1, 9), value if number != lost else value + 1))
        unknown = sum(each.outcome == UNKNOWN for each in operations)
        acknowledged = len(operations) - unknown
        assert value in range(acknowledged - is_lost, acknowledged + unknown + 1)
        # No unknown one makes up for what is lost.
        final = acknowledged - 1 if is_lost else value
        assert bool(verdict(*operations, get(2000, 2010, str(final)))) == is_lost
