# SPDX-License-Identifier: Apache-2.0
"""The check of strict serializability, on histories whose verdict is known."""
import random
import time

import pytest

from checkers import history, transactions
from checkers.history import FAIL, OK, UNKNOWN, Operation


def txn(start, end, *steps, outcome=OK, client=0):
    """Steps as text: "a x 1" appends 1 to x; "r x 1 2" reads x as [1, 2]."""
    arguments = []
    result = []
    for step in steps:
        words = step.split()
        if words[0] == "a":
            arguments.append(("append", words[1], int(words[2])))
            result.append(None)
        else:
            arguments.append(("read", words[1]))
            result.append([int(word) for word in words[2:]])
    return Operation(client, "txn", "", tuple(arguments), start, end if outcome != UNKNOWN else None, outcome,
                     result if outcome == OK else None)


def check(*operations):
    return transactions.check(history.numbered(operations))


def names(*operations):
    return [anomaly.name for anomaly in check(*operations)]


# ---- what transactions may do --------------------------------------------------------------------------


def test_one_after_the_other():
    assert names(txn(0, 10, "r x", "a x 1", "r x 1"), txn(20, 30, "a y 2", "a x 3", "a x 4"),
                 txn(40, 50, "r x 1 3 4", "r y 2")) == []


def test_transactions_that_overlap_may_come_in_either_order():
    assert names(txn(0, 100, "a x 1", "a y 2"), txn(10, 90, "r x", "r y"), txn(10, 90, "r x 1", "r y 2")) == []


def test_an_unknown_transaction_may_have_happened_or_not():
    unknown = txn(0, None, "a x 1", "a y 2", outcome=UNKNOWN)
    assert names(unknown, txn(20, 30, "r x", "r y")) == []
    assert names(unknown, txn(20, 30, "r x 1", "r y 2")) == []
    assert names(unknown, txn(20, 30, "r x", "r y"), txn(40, 50, "r x 1", "r y 2")) == []


def test_equal_times_overlap():
    assert names(txn(0, 10, "a x 1"), txn(10, 20, "r x")) == []
    assert names(txn(0, 10, "a x 1"), txn(11, 20, "r x")) != []


# ---- each anomaly --------------------------------------------------------------------------------------


def test_g0_interleaved_writes():
    """x was appended to by the first before the second, y by the second before the first."""
    found = check(txn(0, 100, "a x 1", "a y 2"), txn(0, 100, "a x 3", "a y 4"), txn(200, 210, "r x 1 3", "r y 4 2"))
    assert [anomaly.name for anomaly in found] == ["G0"]
    assert "T1 appended 1 to x before T2 appended 3 (ww)" in found[0].text
    assert "T2 appended 4 to y before T1 appended 2 (ww)" in found[0].text


def test_g1a_aborted_read():
    found = check(txn(0, 10, "a x 1", outcome=FAIL), txn(20, 30, "r x 1"))
    assert [anomaly.name for anomaly in found] == ["G1a"]
    assert "= refused" in found[0].text


def test_g1b_intermediate_read():
    assert names(txn(0, 100, "a x 1", "a x 2"), txn(10, 20, "r x 1"), txn(200, 210, "r x 1 2"))[0] == "G1b"


def test_g1c_circular_information():
    """Each saw what the other wrote."""
    found = check(txn(0, 100, "a x 1", "r y 2"), txn(0, 100, "a y 2", "r x 1"))
    assert [anomaly.name for anomaly in found] == ["G1c"]
    assert len(found[0].cycle) == 2


def test_g_single_read_skew():
    """One key as before the other transaction, one as after it."""
    found = check(txn(0, 100, "a x 1", "a y 2"), txn(0, 100, "r x 1", "r y"), txn(200, 210, "r x 1", "r y 2"))
    assert [anomaly.name for anomaly in found] == ["G-single"]
    assert "T2 read y with nothing, before T1 appended 2 (rw)" in found[0].text
    assert "T1 appended 1 to x, which T2 read (wr)" in found[0].text


def test_half_a_transaction_of_unknown_outcome():
    """If any of it is seen, all of it is, though no read ever shows the other half."""
    assert names(txn(0, None, "a x 1", "a y 2", outcome=UNKNOWN), txn(20, 30, "r x 1", "r y")) == ["G-single"]


def test_g2_write_skew():
    """Each read what the other was about to write."""
    found = check(txn(0, 100, "r x", "a y 1"), txn(0, 100, "r y", "a x 2"), txn(200, 210, "r x 2", "r y 1"))
    assert [anomaly.name for anomaly in found] == ["G2"]
    assert [kind for _, kind, _ in found[0].cycle] == ["rw", "rw"]


def test_lost_update():
    """Two read the same state and both appended: each believes to be the next."""
    found = names(txn(0, 100, "r x 9", "a x 1"), txn(0, 100, "r x 9", "a x 2"), txn(0, 5, "a x 9"),
                  txn(200, 210, "r x 9 1 2"))
    assert found[0] == "lost-update"


def test_stale_read():
    """Serializable, but not strictly: a transaction that began later does not see it."""
    found = check(txn(0, 10, "a x 1"), txn(20, 30, "r x"), txn(40, 50, "r x 1"))
    assert [anomaly.name for anomaly in found] == ["G-single-realtime"]
    assert "T1 had ended before T2 began (rt)" in found[0].text


def test_a_lost_acknowledged_append():
    """It never appears, though the list is read after it was acknowledged."""
    expected = ["lost-append", "G-single-realtime"]
    assert names(txn(0, 10, "a x 1"), txn(20, 30, "a x 2"), txn(40, 50, "r x 2")) == expected
    assert names(txn(0, 10, "a x 1"), txn(40, 50, "r x")) == expected
    assert names(txn(0, 100, "a x 1"), txn(40, 50, "r x")) == []


def test_order_against_real_time():
    """The later append stands before the earlier one."""
    assert names(txn(0, 10, "a x 1"), txn(20, 30, "a x 2"), txn(40, 50, "r x 2 1")) == ["G0-realtime"]


def test_real_time_reaches_over_many():
    """The frontier keeps what is needed: a cycle through transactions that touch other keys."""
    others = [txn(20 + 10 * number, 25 + 10 * number, f"a z{number} {100 + number}") for number in range(20)]
    assert names(txn(0, 10, "a x 1"), *others, txn(900, 910, "r x"), txn(920, 930, "r x 1")) == [
        "G-single-realtime"]


def test_incompatible_order():
    assert names(txn(0, 100, "a x 1"), txn(0, 100, "a x 2"), txn(0, 100, "r x 1 2"), txn(0, 100, "r x 2"))[0] == (
        "incompatible-order")


def test_executed_twice():
    assert names(txn(0, None, "a x 1", outcome=UNKNOWN), txn(20, 30, "r x 1 1"))[0] == "duplicate"


def test_phantom():
    assert names(txn(20, 30, "r x 7"))[0] == "phantom"


def test_internal():
    """A transaction sees its own appends, and one state of what others did."""
    assert names(txn(0, 10, "a x 1", "r x"))[0] == "internal"
    assert "internal" in names(txn(0, 100, "a x 1"), txn(0, 100, "r x", "r x 1"))


def test_long_cycles_are_found():
    """Each of many transactions wrote one list before, another one after its neighbour."""
    count = 30
    ring = [txn(0, 1000, f"a k{number} {number}", f"r k{(number + 1) % count} {(number + 1) % count}")
            for number in range(count)]
    found = check(*ring)
    assert [anomaly.name for anomaly in found] == ["G1c"]
    assert len(found[0].cycle) == count


# ---- histories of a correct and of a wrong database -----------------------------------------------------


def simulate(rng, count, clients, keys, unknown_rate=0.0, isolation="strict"):
    """Transactions take effect at one moment between start and end. With isolation="snapshot" they read the
    state of their start and write at their end, which is not serializable."""
    events = []
    next_id = iter(range(1, 1000000))
    free_at = [0] * clients
    for _ in range(count):
        client = min(range(clients), key=lambda each: free_at[each])
        start = free_at[client] + rng.randrange(1, 30)
        end = start + rng.randrange(1, 100)
        free_at[client] = end
        steps = tuple(("append", f"k{rng.randrange(keys)}", next(next_id)) if rng.random() < 0.5
                      else ("read", f"k{rng.randrange(keys)}") for _ in range(rng.randrange(1, 5)))
        outcome = rng.choices([OK, UNKNOWN, FAIL], [1, unknown_rate, unknown_rate])[0]
        made = Operation(client, "txn", "", steps, start, end if outcome != UNKNOWN else None, outcome)
        happens = outcome == OK or (outcome == UNKNOWN and rng.random() < 0.5)
        effect = rng.randrange(start, end + 1) if outcome == OK else start + rng.randrange(0, 500)
        if not happens:
            events.append((start, "none", made))
        elif isolation == "strict":
            events.append((effect, "all", made))
        else:
            events.append((start, "read", made))
            events.append((end, "write", made))
    state = {}
    for _, part, made in sorted(events, key=lambda event: event[0]):
        take_effect(state, part, made)
    unique = {id(made): made for _, _, made in events}
    return history.numbered(sorted(unique.values(), key=lambda made: made.start))


def take_effect(state, part, made):
    if part == "write":
        for step in made.arguments:
            if step[0] == "append":
                state.setdefault(step[1], []).append(step[2])
    elif part != "none":
        own = {key: list(values) for key, values in state.items()}
        result = []
        for step in made.arguments:
            if step[0] == "append":
                own.setdefault(step[1], []).append(step[2])
                result.append(None)
            else:
                result.append(list(own.get(step[1], [])))
        if made.outcome == OK:
            made.result = result
        if part == "all":
            state.clear()
            state.update(own)


@pytest.mark.parametrize("seed", range(40))
def test_what_a_correct_database_does_passes(seed):
    rng = random.Random(seed)
    operations = simulate(rng, rng.randrange(1, 200), rng.randrange(1, 20), rng.randrange(1, 6),
                          unknown_rate=rng.choice([0, 0.05, 0.3]))
    found = transactions.check(operations)
    assert not found, str(found[0])


def test_snapshot_isolation_is_found():
    """A database that reads at the start of a transaction and writes at its end is found in nearly every
    history of some size."""
    found = sum(bool(transactions.check(simulate(random.Random(seed), 60, 6, 3, isolation="snapshot")))
                for seed in range(50))
    assert found >= 48


def test_most_mutations_are_found():
    """In a correct history one thing is changed: an ID vanishes from a read, or two change places, or a read
    shows an older state."""
    found = 0
    tried = 0
    for seed in range(150):
        rng = random.Random(5000 + seed)
        operations = simulate(rng, 60, 5, 3)
        places = [(each, number) for each in operations for number, step in enumerate(each.arguments)
                  if step[0] == "read" and len(each.result[number]) > 1]
        if not places:
            continue
        victim, number = rng.choice(places)
        read = victim.result[number]
        place = rng.randrange(len(read) - 1)
        change = rng.choice(["drop", "swap", "older"])
        victim.result[number] = {"drop": read[:place] + read[place + 1:],
                                 "swap": read[:place] + [read[place + 1], read[place]] + read[place + 2:],
                                 "older": read[:place]}[change]
        tried += 1
        found += bool(transactions.check(operations))
    assert tried > 120
    assert found > 0.8 * tried


def test_long_histories_take_seconds():
    """5,000 transactions of 20 clients."""
    operations = simulate(random.Random(1), 5000, 20, 100, unknown_rate=0.02)
    started = time.process_time()
    assert not transactions.check(operations)
    assert time.process_time() - started < 20
