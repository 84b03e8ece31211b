# SPDX-License-Identifier: Apache-2.0
"""Transactions whose keys are in several shards: all or nothing, with WATCH, on one node and on three, also when nodes die."""
import signal
import threading
import time

import pytest
import redis
from test_shards import alone, client, three, wait_for  # pylint: disable=unused-import

ACCOUNTS = [f"account:{i}" for i in range(12)]


def slot_of(client, key):
    return client.execute_command("CLUSTER KEYSLOT", key)


def test_the_keys_of_these_tests_are_in_several_shards(client):
    assert len({slot_of(client, key) * 16 // 16384 for key in ACCOUNTS}) > 4


def test_exec_across_shards(client):
    with client.pipeline() as pipeline:
        for number, key in enumerate(ACCOUNTS):
            pipeline.set(key, number)
        pipeline.mget(ACCOUNTS + ["none"])
        pipeline.incr(ACCOUNTS[3], 10)
        pipeline.echo("own")
        pipeline.delete(*ACCOUNTS[:4], "none")
        pipeline.exists(*ACCOUNTS)
        replies = pipeline.execute()
    assert replies[:12] == [True] * 12
    assert replies[12] == [str(i) for i in range(12)] + [None]
    assert replies[13:] == [13, "own", 4, 8]
    assert client.mget(ACCOUNTS) == [None] * 4 + [str(i) for i in range(4, 12)]


def test_an_error_of_one_command_is_its_own(client):
    client.hset(ACCOUNTS[0], "field", "value")
    with client.pipeline() as pipeline:
        for key in ACCOUNTS:
            pipeline.incr(key)
        replies = pipeline.execute(raise_on_error=False)
    assert isinstance(replies[0], redis.ResponseError) and replies[1:] == [1] * 11


def test_mset_and_msetnx(client):
    assert client.mset({key: "1" for key in ACCOUNTS})
    assert client.mget(ACCOUNTS) == ["1"] * 12
    assert not client.msetnx({key: "2" for key in ACCOUNTS + ["new"]})
    assert client.get("new") is None and client.mget(ACCOUNTS) == ["1"] * 12
    assert client.delete(*ACCOUNTS) == 12
    assert client.msetnx({key: "3" for key in ACCOUNTS})
    assert client.mget(ACCOUNTS) == ["3"] * 12
    with pytest.raises(redis.ResponseError, match="wrong number of arguments for 'mset'"):
        client.execute_command("MSET", ACCOUNTS[0], "1", ACCOUNTS[1])


def test_msetnx_in_a_transaction(client):
    """It answers what it does alone, in an array; beside others, or a WATCH, too."""
    one, two, three = ACCOUNTS[:3]
    assert execute(client, "MULTI", f"MSETNX {one} 1 {two} 2", "EXEC")[-1] == [1]
    assert client.mget(one, two) == ["1", "2"]
    assert execute(client, "MULTI", f"MSETNX {three} 3 {two} 3", "EXEC")[-1] == [0]
    assert execute(client, f"WATCH {one}", "UNWATCH", "MULTI", f"MSETNX {three} 3 {two} 3", "EXEC")[-1] == [0]
    assert execute(client, f"WATCH {one}", "MULTI", f"MSETNX {three} 3 {two} 3", "EXEC")[-1] == [0]
    assert execute(client, f"WATCH {one}", f"SET {one} 1", "MULTI", f"MSETNX {three} 3 new 3", "EXEC")[-1] is None
    assert execute(client, "MULTI", f"MSETNX {three} 3 {two} 3", f"GET {one}", "EXEC")[-1] == [0, "1"]
    assert execute(client, "MULTI", "PING", f"MSETNX {three} 3 {one} 3", "EXEC")[-1] == ["PONG", 0]
    assert client.mget(one, two, three, "new") == ["1", "2", None, None]
    # Its keys are in one shard: it is as any other command, and a WATCH of another shard is a WATCH.
    same = [f"MSETNX {{t}}a 1 {{t}}b 1"]
    assert execute(client, f"WATCH {one}", "MULTI", *same, f"GET {one}", "EXEC")[-1] == [1, "1"]
    assert execute(client, f"WATCH {one}", "MULTI", *same, "EXEC")[-1] == [0]
    assert execute(client, f"WATCH {one}", f"SET {one} 2", "MULTI", *same, "EXEC")[-1] is None


def test_lcs(client):
    client.mset({ACCOUNTS[0]: "ohmytext", ACCOUNTS[1]: "mynewtext"})
    assert client.execute_command("LCS", *ACCOUNTS[:2]) == "mytext"
    assert client.execute_command("LCS", *ACCOUNTS[:2], "LEN") == 6
    assert client.execute_command("LCS", ACCOUNTS[0], ACCOUNTS[2]) == ""
    client.hset(ACCOUNTS[3], "field", "value")
    with pytest.raises(redis.ResponseError, match="must contain string values"):
        client.execute_command("LCS", ACCOUNTS[0], ACCOUNTS[3])
    with client.pipeline() as pipeline:
        pipeline.append(ACCOUNTS[1], "s")
        pipeline.append(ACCOUNTS[0], "s")
        pipeline.execute_command("LCS", *ACCOUNTS[:2], "LEN")
        assert pipeline.execute()[2] == 7


def test_watch(alone, client):
    other = alone.client(decode_responses=True)
    for touched, expected in ((None, [True, True]), (ACCOUNTS[5], None), (ACCOUNTS[6], None)):
        with client.pipeline() as pipeline:
            for key in ACCOUNTS[5:8]:
                pipeline.watch(key)
            if touched:
                other.incr(touched)
            pipeline.multi()
            pipeline.set(ACCOUNTS[0], "x")
            pipeline.set(ACCOUNTS[1], "y")
            try:
                assert pipeline.execute() == expected
            except redis.WatchError:
                assert expected is None
    with client.pipeline() as pipeline:
        pipeline.watch(ACCOUNTS[5])
        other.incr(ACCOUNTS[5])
        pipeline.unwatch()
        pipeline.multi()
        pipeline.set(ACCOUNTS[0], "x").set(ACCOUNTS[1], "y")
        assert pipeline.execute() == [True, True]


def test_watch_of_many_keys_at_once(alone, client):
    other = alone.client(decode_responses=True)
    for touched in (None, *ACCOUNTS):
        with client.pipeline() as pipeline:
            pipeline.watch(*ACCOUNTS)
            if touched:
                other.incr(touched)
            pipeline.multi()
            pipeline.get(ACCOUNTS[0]).get(ACCOUNTS[1])
            if touched:
                with pytest.raises(redis.WatchError):
                    pipeline.execute()
            else:
                assert pipeline.execute() == [None, None]


LONG_KEY = "k" * 70000


def execute(client, *commands):
    """On one connection; what it answers as it is, errors as text."""
    with client.client() as one:
        replies = []
        for command in commands:
            try:
                one.connection.send_command(*command.split())
                replies.append(one.connection.read_response())
            except redis.ResponseError as error:
                replies.append(str(error))
    return replies


def test_what_a_command_would_refuse_is_refused_whole(client):
    one, two = ACCOUNTS[:2]
    too_long = "key is longer than 65535 bytes"
    client.mset({one: "1", two: "2"})
    assert execute(client, f"MSET {one} x {LONG_KEY} x {two} x", f"MSETNX new x {LONG_KEY} x {ACCOUNTS[2]} x",
                   f"DEL {one} {LONG_KEY} {two}", f"MGET {one} {LONG_KEY}", f"LCS {one} {LONG_KEY}",
                   f"RENAME {one} {LONG_KEY}", f"RENAMENX {LONG_KEY} {one}", f"COPY {one} {LONG_KEY}") == [too_long] * 8
    replies = execute(client, "MULTI", f"SET {ACCOUNTS[2]} x", f"MSET {one} x {LONG_KEY} x", f"DEL {two} {LONG_KEY}",
                      f"SET {LONG_KEY} x", f"MSET {one} x {two}", f"INCR {two}", "EXEC")[-1]
    assert replies[0] == "OK" and [str(reply) for reply in replies[1:4]] == [too_long] * 3
    assert "wrong number of arguments for 'mset'" in str(replies[4]) and replies[5] == 3
    assert client.mget(one, two, "new", ACCOUNTS[2]) == ["1", "3", None, "x"]


def test_a_watch_that_fails_watches_nothing(client):
    too_long = "key is longer than 65535 bytes"
    for watches in ([f"WATCH {ACCOUNTS[0]} {LONG_KEY}"],
                    [f"WATCH {LONG_KEY}1", f"WATCH {LONG_KEY}2", f"WATCH {LONG_KEY}3"]):
        replies = execute(client, *watches, "MULTI", "PING", "ECHO own", "EXEC")
        assert replies[:-4] == [too_long] * len(watches)
        assert replies[-1] == ["PONG", "own"]
    replies = execute(client, f"WATCH {' '.join(ACCOUNTS)}", "UNWATCH", "MULTI", "PING", "EXEC")
    assert replies[-1] == ["PONG"]
    replies = execute(client, f"WATCH {' '.join(ACCOUNTS)}", "MULTI", "PING", "EXEC")
    assert replies[-1] == ["PONG"]


def test_rename_and_copy(client):
    one, two, three = ACCOUNTS[:3]
    with pytest.raises(redis.ResponseError, match="no such key"):
        client.rename(one, two)
    client.set(one, "value", px=100000)
    assert client.rename(one, two)
    assert client.mget(one, two) == [None, "value"] and 0 < client.pttl(two) <= 100000
    client.set(three, "other")
    assert client.renamenx(two, three) is False and client.renamenx(two, one) is True
    assert client.copy(one, three) is False and client.copy(one, three, replace=True) is True
    assert client.copy(two, three, replace=True) is False
    assert client.mget(one, two, three) == ["value", None, "value"]
    fields = {f"field{i}": f"value{i}" for i in range(1000)}
    client.hset(two, mapping=fields)
    assert client.rename(two, three)
    assert client.hgetall(three) == fields and client.exists(two) == 0
    with pytest.raises(redis.ResponseError, match="syntax error"):
        client.execute_command("COPY", one, three, "OOPS")
    client.set(two, "x" * 2000000)
    with pytest.raises(redis.ResponseError, match="CROSSSLOT .*too large"):
        client.rename(two, three)
    assert client.strlen(two) == 2000000 and client.hgetall(three) == fields
    with client.pipeline(transaction=False) as pipeline:
        pipeline.set(one, "1").rename(one, two).get(two).rename(two, three).get(three).exists(one, two)
        assert pipeline.execute()[2:] == ["1", True, "1", 0]


def test_a_key_that_travels_is_never_lost(alone, client):
    """Threads rename a key around while another one appends: every append is somewhere in the end."""
    client.set(ACCOUNTS[0], "")
    is_over = False
    moved, appended = [0], [0]

    def travel():
        mine = alone.client(decode_responses=True)
        while not is_over:
            for number in range(4):
                try:
                    moved[0] += mine.renamenx(ACCOUNTS[number], ACCOUNTS[(number + 1) % 4])
                except redis.ResponseError as error:
                    assert "no such key" in str(error) or "TRYAGAIN" in str(error)

    def write():
        mine = alone.client(decode_responses=True)
        while not is_over:
            for number in range(4):
                # Where the key is. It may go between EXISTS and EXEC, and come only behind WATCH: then there are two.
                with mine.pipeline() as pipeline:
                    try:
                        pipeline.watch(ACCOUNTS[number])
                        if pipeline.exists(ACCOUNTS[number]):
                            pipeline.multi()
                            pipeline.append(ACCOUNTS[number], "x")
                            pipeline.execute()
                            appended[0] += 1
                    except redis.WatchError:
                        pass
                    except redis.ResponseError as error:
                        assert "TRYAGAIN" in str(error)

    threads = [threading.Thread(target=target) for target in (travel, travel, write)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    deadline = time.monotonic() + 30
    while min(moved[0], appended[0]) <= 3 and time.monotonic() < deadline:  # On a busy machine it takes longer.
        time.sleep(0.1)
    is_over = True
    for thread in threads:
        thread.join()
    values = [value for value in client.mget(ACCOUNTS[:4]) if value is not None]
    assert sum(len(value) for value in values) == appended[0]
    assert moved[0] > 3 and appended[0] > 3


def test_an_order_of_a_connection_is_kept(client):
    with client.pipeline(transaction=False) as pipeline:
        for number in range(50):
            pipeline.set(ACCOUNTS[0], number)
            pipeline.mset({key: number for key in ACCOUNTS})
            pipeline.get(ACCOUNTS[number % 12])
            pipeline.incr(ACCOUNTS[1])
        replies = pipeline.execute()
    assert replies[2::4] == [str(number) for number in range(50)]
    assert replies[3::4] == [number + 1 for number in range(50)]


class Transfers(threading.Thread):
    """Moves money between accounts; the sum never changes."""

    def __init__(self, node, seed):
        super().__init__(daemon=True)  # It ends with a test that fails before it has ended it.
        self.node, self.seed, self.is_over = node, seed, False
        self.count, self.refused, self.unknown, self.failure = 0, 0, 0, None
        self.start()

    def run(self):
        number = self.seed
        client = None
        while not self.is_over:
            number += 1
            source, target = ACCOUNTS[number % 12], ACCOUNTS[(number * 5 + 1) % 12]
            if source == target:
                continue
            try:
                client = client or self.node.client(decode_responses=True, socket_timeout=30)
                with client.pipeline() as pipeline:
                    pipeline.decr(source, 3).incr(target, 3)
                    pipeline.mget(ACCOUNTS)
                    balances = pipeline.execute()[2]
                if sum(int(balance) for balance in balances) != 1200:
                    self.failure = balances
                    return
                self.count += 1
            except redis.ResponseError as error:
                self.unknown += str(error).startswith("UNKNOWN")
                self.refused += 1
            except (redis.ConnectionError, redis.TimeoutError, OSError):
                client = None
                time.sleep(0.05)

    def end(self):
        self.is_over = True
        self.join()
        assert self.failure is None


def go_on(transfers, seconds=60):
    """Each makes some more. How fast depends on what else the machine does."""
    before = [transfer.count for transfer in transfers]
    wait_for(lambda: all(transfer.count > count + 10 or transfer.failure for transfer, count in zip(transfers, before)),
             "every client goes on", seconds)


def total(client):
    """All at one moment."""
    with client.pipeline() as pipeline:
        pipeline.mget(ACCOUNTS)
        return sum(int(balance) for balance in pipeline.execute()[0])


def test_money_is_neither_made_nor_lost(alone, client):
    client.mset({key: 100 for key in ACCOUNTS})
    transfers = [Transfers(alone, seed) for seed in range(4)]
    time.sleep(3)
    go_on(transfers)
    for transfer in transfers:
        transfer.end()
    assert not any(transfer.refused for transfer in transfers)
    assert total(client) == 1200


def test_a_node_is_killed_between_the_steps(alone, client):
    client.mset({key: 100 for key in ACCOUNTS})
    for round_number in range(3):
        transfers = [Transfers(alone, seed + round_number) for seed in range(4)]
        time.sleep(1)
        alone.kill()
        alone.start()
        for transfer in transfers:
            transfer.end()
        deadline = time.time() + 30
        client = alone.client(decode_responses=True)
        client.mset({f"{key}:other": 1 for key in ACCOUNTS})
        while True:
            try:
                assert total(client) == 1200
                break
            except redis.ResponseError:
                assert time.time() < deadline
        assert client.incr(ACCOUNTS[0], 0) is not None


def test_three_nodes_and_one_dies(three):
    client = three.nodes[0].client(decode_responses=True)
    client.mset({key: 100 for key in ACCOUNTS})
    transfers = [Transfers(node, seed) for seed, node in enumerate(three.nodes)]
    go_on(transfers)
    three.nodes[2].kill()
    time.sleep(4)  # Who dies leaves some half done; those come to their end meanwhile.
    go_on(transfers[:2])
    for transfer in transfers[:2]:
        transfer.end()
    three.nodes[2].start()
    transfers[2].end()
    deadline = time.time() + 30
    while True:
        try:
            assert total(three.nodes[1].client(decode_responses=True)) == 1200
            break
        except redis.ResponseError:
            assert time.time() < deadline


def test_a_stop_does_not_wait_for_shards_without_a_leader(three):
    """What cannot be sent any more is left to the others: it held up a stop for ten seconds, and five are promised."""
    ends = []

    def run(number):
        client = three.nodes[2].client(socket_timeout=60)
        for i in range(1000000):
            moves = client.pipeline(transaction=True)
            for j in range(6):
                moves.set(f"stop:{number}:{i}:{j}", i)
            try:
                moves.execute()
            except redis.RedisError as error:
                ends.append(str(error))
                return

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(1.5)
    three.nodes[0].kill()
    three.nodes[1].kill()
    time.sleep(0.5)
    assert not ends, ends  # All of them are under way.
    process = three.nodes[2].process
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 0
    assert time.monotonic() - started < 7
    for thread in threads:
        thread.join(timeout=10)
    assert len(ends) == 4
