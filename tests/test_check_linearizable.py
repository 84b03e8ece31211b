# SPDX-License-Identifier: Apache-2.0
"""The check of linearizability by key, on histories whose verdict is known."""
import random
import time

import pytest

from checkers import history, linearizable
from checkers.history import FAIL, OK, UNKNOWN, Operation


def operation(client, start, end, action, *arguments, result=None, outcome=OK, key="k"):
    return Operation(client, action, key, arguments, start, end, outcome, result)


def verdict(*operations):
    """None when it is linearizable, else the explanation."""
    violations = linearizable.check(history.numbered(operations))
    assert len(violations) <= 1
    return str(violations[0]) if violations else None


# What Redis answers to a client that is alone: action, arguments, answer.
ANSWERS = [("get", (), None), ("set", ("1",), True), ("set", ("2", "NX"), None), ("set", ("2", "XX"), True),
           ("get", (), "2"), ("set", ("3", "GET"), "2"), ("set", ("4", "NX", "GET"), "3"), ("get", (), "3"),
           ("getset", ("5",), "3"), ("incr", (2,), 7), ("get", (), "7"), ("del", (), 1), ("del", (), 0),
           ("set", ("6", "XX", "GET"), None), ("get", (), None), ("set", ("7", "NX", "GET"), None),
           ("get", (), "7"), ("del", (), 1), ("incr", (1,), 1)]
PLAIN_SET = 1  # The one with an answer that cannot be wrong.


# ---- what registers may do -----------------------------------------------------------------------------


def test_one_client_after_the_other():
    """A sequence as Redis would answer it passes, with every action and option."""
    assert verdict(*[operation(0, 10 * number, 10 * number + 5, action, *arguments, result=result)
                     for number, (action, arguments, result) in enumerate(ANSWERS)]) is None


@pytest.mark.parametrize("number", [place for place in range(len(ANSWERS)) if place != PLAIN_SET])
def test_every_answer_counts(number):
    """Any wrong answer in that sequence is found."""
    wrong = {None: "1", True: None}.get(ANSWERS[number][2], "8")
    operations = [operation(0, 10 * place, 10 * place + 5, action, *arguments,
                            result=wrong if place == number else result)
                  for place, (action, arguments, result) in enumerate(ANSWERS)]
    assert verdict(*operations) is not None


def test_operations_that_overlap_may_come_in_either_order():
    """While a write is under way, one read sees it and another, also under way, does not."""
    assert verdict(operation(0, 0, 100, "set", "new", result=True),
                   operation(1, 10, 90, "get", result=None),
                   operation(2, 10, 90, "get", result="new")) is None


def test_equal_times_overlap():
    """What ends at the moment when another begins may come after it: a clock does not tell."""
    assert verdict(operation(0, 0, 10, "set", "1", result=True),
                   operation(1, 10, 20, "get", result=None)) is None
    assert verdict(operation(0, 0, 10, "set", "1", result=True),
                   operation(1, 11, 20, "get", result=None)) is not None


def test_a_stale_read_is_found():
    """A read that begins after a write was acknowledged sees it. The explanation names the read."""
    text = verdict(operation(0, 0, 10, "set", "old", result=True),
                   operation(0, 20, 30, "set", "new", result=True),
                   operation(1, 40, 50, "get", result="old"))
    assert "line 3, client 1: get k = 'old'" in text
    assert "The value is then 'old'" in text and "line 2, client 0: set k new = True" in text


def test_reads_do_not_go_back():
    """Once somebody has seen the new value, nobody sees the old one, though the write is still under way."""
    assert verdict(operation(0, 0, 100, "set", "new", result=True),
                   operation(1, 10, 20, "get", result="new"),
                   operation(2, 30, 40, "get", result=None)) is not None


def test_a_lost_acknowledged_write_is_found():
    assert verdict(operation(0, 0, 10, "set", "1", "NX", result=True),
                   operation(1, 20, 30, "set", "2", "NX", result=True)) is not None


def test_two_winners_of_one_lock_are_found():
    """SET NX at the same time: one wins."""
    assert verdict(operation(0, 0, 10, "set", "a", "NX", result=True),
                   operation(1, 0, 10, "set", "b", "NX", result=True)) is not None
    assert verdict(operation(0, 0, 10, "set", "a", "NX", result=True),
                   operation(1, 0, 10, "set", "b", "NX", result=None)) is None


def test_an_increment_that_counts_twice_is_found():
    assert verdict(operation(0, 0, 10, "incr", 1, result=1),
                   operation(0, 20, 30, "incr", 1, result=3)) is not None


def test_keys_are_apart():
    """Each key is a register of its own; the violation names the key."""
    violations = linearizable.check(history.numbered([
        operation(0, 0, 10, "set", "1", result=True, key="a"), operation(0, 20, 30, "get", result=None, key="b"),
        operation(0, 40, 50, "get", result=None, key="a")]))
    assert [violation.key for violation in violations] == ["a"]


# ---- outcomes that nobody knows -------------------------------------------------------------------------


def test_an_unknown_write_may_have_happened_or_not():
    unknown = operation(0, 0, None, "set", "1", outcome=UNKNOWN)
    assert verdict(unknown, operation(1, 20, 30, "get", result="1")) is None
    assert verdict(unknown, operation(1, 20, 30, "get", result=None)) is None


def test_an_unknown_write_may_happen_late_but_once():
    """It may take effect long after its client gave up; after it was overwritten it does not come again."""
    unknown = operation(0, 0, None, "set", "1", outcome=UNKNOWN)
    assert verdict(unknown, operation(1, 20, 30, "get", result=None),
                   operation(1, 40, 50, "get", result="1")) is None
    assert verdict(unknown, operation(1, 20, 30, "get", result="1"),
                   operation(1, 40, 50, "set", "2", result=True),
                   operation(1, 60, 70, "get", result="1")) is not None


def test_an_unknown_write_does_not_come_before_its_start():
    assert verdict(operation(1, 0, 10, "get", result="1"),
                   operation(0, 20, None, "set", "1", outcome=UNKNOWN)) is not None


def test_a_refused_write_did_not_happen():
    assert verdict(operation(0, 0, 10, "set", "1", outcome=FAIL),
                   operation(1, 20, 30, "get", result="1")) is not None


def test_a_write_that_nobody_saw_can_explain_a_refusal():
    """An unknown SET whose value never appears still makes the key exist."""
    refused = operation(1, 20, 30, "set", "2", "NX", result=None)
    assert verdict(operation(0, 0, None, "set", "1", outcome=UNKNOWN), refused) is None
    assert verdict(refused) is not None


def test_unknown_increments_each_count_at_most_once():
    unknown = [operation(client, 0, None, "incr", 1, outcome=UNKNOWN) for client in range(3)]
    assert verdict(*unknown, operation(9, 20, 30, "get", result="3")) is None
    assert verdict(*unknown, operation(9, 20, 30, "get", result="4")) is not None


# ---- size ----------------------------------------------------------------------------------------------


def simulate(rng, operation_count, clients, is_counter=False, unknown_rate=0.0):
    """A history of a register that is correct: each operation takes effect between its start and its end,
    or, when its outcome is unknown, at some time after its start or never."""
    pending = []  # (when it takes effect, operation)
    now = 0
    free_at = [0] * clients
    for number in range(operation_count):
        client = min(range(clients), key=lambda each: free_at[each])
        start = max(free_at[client], now) + rng.randrange(1, 10)
        now = max(now, min(free_at))
        action, arguments = draw(rng, number, is_counter)
        end = start + rng.randrange(1, 200)
        free_at[client] = end
        effect = rng.randrange(start, end + 1)
        outcome = OK
        if rng.random() < unknown_rate:
            outcome = UNKNOWN
            effect = start + rng.randrange(0, 5000) if rng.random() < 0.5 else None
        made = operation(client, start, end if outcome == OK else None, action, *arguments, outcome=outcome)
        if effect is not None:
            pending.append((effect, number, made))
        else:
            pending.append((float("inf"), number, made))
    value = None
    for effect, _, made in sorted(pending, key=lambda item: item[:2]):
        if effect != float("inf"):
            value, answer = linearizable.apply(value, made.action, made.arguments)
            if made.outcome == OK:
                made.result = answer
    return history.numbered(sorted((made for _, _, made in pending), key=lambda made: made.start))


def draw(rng, number, is_counter):
    if is_counter:
        return ("incr", (1,)) if rng.random() < 0.7 else ("get", ())
    value = f"v{number}"
    return rng.choice([("get", ()), ("get", ()), ("get", ()), ("set", (value,)), ("set", (value,)), ("set", (value, "NX")),
                       ("set", (value, "XX")), ("set", (value, "XX", "GET")), ("set", (value, "NX", "GET")),
                       ("set", (value, "GET")), ("getset", (value,)), ("del", ())])


@pytest.mark.parametrize("size", [10, 30, 200])
def test_what_a_correct_register_does_passes(size):
    """Whatever the interleaving, and however many outcomes are unknown."""
    for seed in range(30000 // size):
        rng = random.Random(f"{size} {seed}")
        operations = simulate(rng, rng.randrange(1, size), rng.randrange(1, 10), is_counter=seed % 6 == 0,
                              unknown_rate=rng.choice([0, 0, 0.05, 0.3]))
        violations = linearizable.check(operations)
        assert not violations, (seed, str(violations[0]))


def test_most_wrong_answers_are_found():
    """One answer of a correct history is exchanged for another one. Some of that may pass, as it could have
    been; most must not."""
    found = 0
    tried = 0
    for seed in range(100):
        rng = random.Random(1000 + seed)
        operations = simulate(rng, 60, 4, is_counter=seed % 3 == 0)
        victim = rng.choice([each for each in operations if each.action in ("get", "incr")])
        others = [each.result for each in operations if each.action == victim.action and each.result != victim.result]
        if not others:
            continue
        victim.result = rng.choice(others)
        tried += 1
        found += bool(linearizable.check(operations))
    assert tried > 80
    assert found > 0.75 * tried


def has_an_order(operations):
    """The definition, by brute force: try all orders of all known and any unknown operations."""
    known = {index for index, each in enumerate(operations) if each.outcome == OK}

    def search(done, value):
        if known <= done:
            return True
        first_end = min(operations[index].end for index in known - done)
        for index, each in enumerate(operations):
            if index not in done and each.outcome != FAIL and each.start <= first_end:
                after, answer = linearizable.apply(value, each.action, each.arguments)
                if each.outcome == UNKNOWN or answer == each.result:
                    if search(done | {index}, after):
                        return True
        return False

    return search(frozenset(), None)


def test_the_verdict_is_that_of_the_definition():
    """What the search leaves out is never what matters: small histories with random answers, where few
    values make many of them linearizable and many not."""
    verdicts = []
    for seed in range(3000):
        rng = random.Random(seed)
        operations = simulate(rng, rng.randrange(1, 8), rng.randrange(1, 5), is_counter=seed % 5 == 0,
                              unknown_rate=rng.choice([0, 0.3, 0.6]))
        for each in operations:
            if each.action in ("set", "getset"):
                each.arguments = (rng.choice("abc"),) + each.arguments[1:]
            if each.outcome == OK and (rng.random() < 0.3 or each.action in ("set", "getset")):
                each.result = {"set": rng.choice([True, None, "a", "b"]), "del": rng.choice("01")}.get(
                    each.action, rng.choice([None, "a", "b", "c"]))
                if each.action == "set" and "GET" not in each.arguments:
                    each.result = True if len(each.arguments) == 1 else rng.choice([True, None])
            if each.action == "incr":
                each.result = str(rng.randrange(1, 4)) if each.outcome == OK else None
            if each.action == "get" and seed % 5 == 0 and each.outcome == OK:
                each.result = rng.choice([None, "1", "2", "3"])
        expected = has_an_order(operations)
        assert expected == (not linearizable.check(operations)), (seed, [str(each) for each in operations])
        verdicts.append(expected)
    assert 600 < sum(verdicts) < 2400


def test_long_histories_take_seconds():
    """20,000 operations on one key, of five clients that are always busy there."""
    operations = simulate(random.Random(1), 20000, 5, unknown_rate=0.02)
    started = time.process_time()
    assert not linearizable.check(operations)
    assert time.process_time() - started < 20


def test_many_unknown_outcomes_do_not_explode():
    """A violation behind many writes that may or may not have happened is found, and soon."""
    operations = simulate(random.Random(2), 200, 20, unknown_rate=0.3)
    last = max(each.end for each in operations if each.end is not None)
    stale = [each.result for each in operations if each.action == "get" and each.result][-3]
    operations.append(operation(0, last + 1, last + 2, "set", "x", result=True))
    operations.append(operation(0, last + 3, last + 4, "get", result=stale))
    violations = linearizable.check(history.numbered(operations))
    assert len(violations) == 1 and violations[0].is_decided


def test_a_search_that_is_given_up_says_so():
    operations = simulate(random.Random(3), 500, 10)
    violations = linearizable.check(operations, steps_max=50)
    assert len(violations) == 1 and not violations[0].is_decided


# ---- files ---------------------------------------------------------------------------------------------


def test_a_history_survives_its_file(tmp_path):
    operations = simulate(random.Random(4), 50, 5, unknown_rate=0.2)
    operations.append(Operation(1, "txn", "", (("append", "k", 1), ("read", "k")), 5, 6, OK, [None, [1]]))
    operations = history.numbered(operations)
    history.save(operations, tmp_path / "history.jsonl")
    assert history.load(tmp_path / "history.jsonl") == operations


def test_the_recorder_keeps_what_an_operation_became():
    """An answer, a refusal, nobody knows."""
    recorder = history.Recorder()

    def raise_(error):
        raise error

    recorder.run(1, "get", "k", (), lambda: "v")
    recorder.run(1, "set", "k", ("v",), lambda: raise_(history.Refused()))
    recorder.run(1, "set", "k", ("w",), lambda: raise_(history.Unknown()))
    answered, refused, unknown = recorder.history()
    assert (answered.outcome, answered.result) == (OK, "v") and answered.start <= answered.end
    assert refused.outcome == FAIL and refused.end is not None
    assert unknown.outcome == UNKNOWN and unknown.end is None
