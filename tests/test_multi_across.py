# SPDX-License-Identifier: Apache-2.0
"""RENAME, RENAMENX, COPY and MSETNX in MULTI, whose keys are in several shards: what they do is what Redis does, among other
commands, under WATCH, beside others that want the same keys, and while a node dies."""
import random
import threading
import time

import pytest
import redis
from differential import redis_server
from test_shards import alone, client, three, wait_for  # pylint: disable=unused-import

KEYS = [f"key:{i}" for i in range(10)]
ROUND_COUNT = 400
MIB = 1 << 20


@pytest.fixture
def model():
    with redis_server() as (host, port), redis.Redis(host, port, decode_responses=True) as asked:
        yield asked


def multi(client, commands, watched=(), between=None):
    """What EXEC answers; errors as texts."""
    def plain(reply):
        if isinstance(reply, list):
            return [plain(each) for each in reply]
        return f"error: {reply}" if isinstance(reply, Exception) else reply

    connection = client.connection_pool.get_connection("MULTI")
    try:
        sent = ([["WATCH", *watched]] if watched else []) + [["MULTI"], *commands, ["EXEC"]]
        replies = []
        for number, command in enumerate(sent):
            if watched and number == 1 and between is not None:
                between()
            connection.send_command(*command)
            try:
                replies.append(plain(connection.read_response()))
            except redis.ResponseError as error:
                replies.append(plain(error))
        return replies[-1]
    finally:
        client.connection_pool.release(connection)


def state(client):
    found = {}
    for key in KEYS:
        kind = client.type(key)
        value = {"none": lambda _: None, "string": client.get, "hash": client.hgetall}[kind](key)
        found[key] = (kind, value, client.pttl(key) > 0)
    return found


def draw(chance):
    def one():
        return chance.choice(KEYS)

    value = str(chance.randrange(1000))
    return chance.choice([
        lambda: ["RENAME", one(), one()], lambda: ["RENAME", one(), one()], lambda: ["RENAMENX", one(), one()],
        lambda: ["COPY", one(), one()], lambda: ["COPY", one(), one(), "REPLACE"], lambda: ["COPY", one(), one(), "BAD"],
        lambda: ["MSETNX", one(), value, one(), value], lambda: ["MSETNX", one(), value, one(), "2", one(), "3"],
        lambda: ["MSETNX", one(), value, one()], lambda: ["SET", one(), value], lambda: ["SET", one(), value, "EX", "100"],
        lambda: ["INCR", one()], lambda: ["APPEND", one(), value], lambda: ["HSET", one(), "f", value, f"f{value}", "x"],
        lambda: ["HDEL", one(), "f"], lambda: ["DEL", one(), one()], lambda: ["GET", one()], lambda: ["HGET", one(), "f"],
        lambda: ["MGET", one(), one(), one()], lambda: ["EXPIRE", one(), "100"], lambda: ["PERSIST", one()],
        lambda: ["TYPE", one()], lambda: ["EXISTS", one(), one()], lambda: ["PING"], lambda: ["GETDEL", one()],
        lambda: ["MSET", one(), value, one(), "1"], lambda: ["STRLEN", one()], lambda: ["LCS", one(), one()],
    ])()


@pytest.mark.parametrize("seed", [1, 2])
def test_random_transactions_do_what_those_of_redis_do(client, model, seed):
    chance = random.Random(seed)
    for number in range(ROUND_COUNT):
        commands = [draw(chance) for _ in range(chance.randrange(1, 9))]
        watched = chance.sample(KEYS, 2) if chance.random() < 0.3 else []
        changed = watched[0] if watched and chance.random() < 0.3 else None
        expected, got = (multi(each, commands, watched, lambda each=each: changed and each.set(changed, "other"))
                         for each in (model, client))
        assert got == expected, (number, watched, changed, commands)
        if number % 5 == 0:
            assert state(client) == state(model), (number, commands)
    assert state(client) == state(model)


def test_commands_see_what_stands_before_them(client):
    one, two, three_, four = KEYS[:4]
    assert multi(client, [["RENAME", one, two], ["SET", three_, "x"], ["INCR", four]]) == ["error: no such key", "OK", 1]
    assert client.mget(two, three_, four) == [None, "x", "1"]
    client.flushall()
    replies = multi(client, [["MSETNX", one, "1", two, "2"], ["MSETNX", two, "3", three_, "3"], ["GET", two], ["RENAME", two, three_],
                             ["MSETNX", two, "4", four, "4"], ["MGET", one, two, three_, four], ["RENAMENX", one, two]])
    assert replies == [1, 0, "2", "OK", 1, ["1", "4", "2", "4"], 0]
    assert client.mget(one, two, three_, four) == ["1", "4", "2", "4"]


def test_a_watch_beside_them(client):
    one, two, three_ = KEYS[:3]
    client.set(one, "1")
    commands = [["RENAME", one, two], ["GET", two]]
    assert multi(client, commands, [three_], lambda: client.set(three_, "x")) is None
    assert multi(client, commands, [one], lambda: client.set(one, "1")) is None
    assert client.mget(one, two, three_) == ["1", None, "x"]
    assert multi(client, commands, [one, three_]) == ["OK", "1"]


def test_expiries_go_with_the_key(client):
    one, two = KEYS[:2]
    client.set(one, "1", px=500000)
    assert multi(client, [["RENAME", one, two], ["PERSIST", one], ["APPEND", two, "2"]]) == ["OK", 0, 2]
    assert 400000 < client.pttl(two) <= 500000 and client.get(two) == "12"
    assert multi(client, [["COPY", two, one], ["EXPIRE", one, "1000"], ["PERSIST", two]]) == [1, 1, 1]
    assert client.pttl(two) == -1 and 900000 < client.pttl(one) <= 1000000


def test_what_is_too_large_changes_nothing(client):
    one, two, three_ = KEYS[:3]
    client.set(one, "x" * (MIB + 1))
    client.set(three_, "1")
    for commands in ([["SET", three_, "2"], ["RENAME", one, two]], [["COPY", three_, two], ["SETRANGE", two, str(20 * MIB), "x"]],
                     [["COPY", three_, two], *(["MSETNX", f"{{{i}}}", "1", f"{{{i}}}:", "1", f"x:{i}", "1"] for i in range(600))]):
        refused = multi(client, commands)
        assert refused.startswith("error: Transaction discarded because of: CROSSSLOT") and "smaller transactions" in refused
        assert client.strlen(one) == MIB + 1 and client.mget(two, three_) == [None, "1"]
        assert client.dbsize() == 2
    # What is only replaced, or has nothing to do with it, is as large as it likes.
    assert multi(client, [["APPEND", one, "y"], ["RENAME", three_, two]]) == [MIB + 2, "OK"]
    assert multi(client, [["RENAME", two, one], ["STRLEN", three_]]) == ["OK", 0]
    assert client.get(one) == "1" and client.dbsize() == 1


def test_whole_keyspace_commands_stay_refused(client):
    for command in (["DBSIZE"], ["KEYS", "*"], ["FLUSHALL"]):
        assert "Transaction discarded" in multi(client, [["RENAME", KEYS[0], KEYS[1]], command])


class Moves(threading.Thread):
    """Moves tokens from place to place; none is ever lost, or there twice. In the same transaction it counts, and looks."""

    def __init__(self, node, seed):
        super().__init__(daemon=True)  # It ends with a test that fails before it has ended it.
        self.node, self.chance, self.number = node, random.Random(seed), seed
        self.is_over, self.count, self.unknown, self.failure = False, 0, 0, None
        self.start()

    def run(self):
        try:
            client = self.node.client(decode_responses=True)
            while not self.is_over:
                self.move(client)
        except Exception as error:  # pylint: disable=broad-exception-caught
            self.failure = error

    def move(self, client):
        source, target = self.chance.sample(KEYS, 2)
        own = [f"own:{self.number}:{i}" for i in range(3)]
        try:
            replies = multi(client, [["RENAMENX", source, target], ["INCR", f"count:{self.number}"], ["MGET", *KEYS],
                                     ["MSETNX", own[0], "1", own[1], "1"], ["RENAME", own[1], own[2]], ["DEL", *own]])
        except redis.ConnectionError:
            self.unknown += 1
            time.sleep(0.1)
            return
        if isinstance(replies, str):
            if "UNKNOWN" in replies:
                self.unknown += 1
            else:
                assert "TRYAGAIN" in replies or "CLUSTERDOWN" in replies or "leader" in replies, replies
            return
        moved, _, tokens, *others = replies
        assert sorted(token for token in tokens if token is not None) == ["t1", "t2", "t3", "t4"], replies
        assert moved in (0, 1, "error: no such key") and others == [1, "OK", 2], replies
        self.count += 1


def tokens_and_counts(client, moves):
    assert sorted(token for token in client.mget(KEYS) if token is not None) == ["t1", "t2", "t3", "t4"]
    for each in moves:
        assert each.failure is None, each.failure
        assert each.count <= int(client.get(f"count:{each.number}") or 0) <= each.count + each.unknown
    assert not any(client.exists(*(f"own:{each.number}:{i}" for i in range(3))) for each in moves)


def end(moves):
    for each in moves:
        each.is_over = True
    for each in moves:
        each.join()


def test_tokens_are_moved_by_many(alone, client):
    client.mset({key: f"t{i + 1}" for i, key in enumerate(KEYS[:4])})
    moves = [Moves(alone, seed) for seed in range(4)]
    time.sleep(4)
    wait_for(lambda: sum(each.count for each in moves) > 20 or any(each.failure for each in moves), "many moves", seconds=30)
    end(moves)
    tokens_and_counts(client, moves)


def test_tokens_are_moved_while_a_node_dies(three):
    client = three.nodes[0].client(decode_responses=True)
    client.mset({key: f"t{i + 1}" for i, key in enumerate(KEYS[:4])})
    moves = [Moves(three.nodes[seed % 2], seed) for seed in range(4)]
    time.sleep(2)
    three.nodes[2].kill()
    time.sleep(4)
    three.nodes[2].start()
    time.sleep(1)
    wait_for(lambda: sum(each.count for each in moves) > 10 or any(each.failure for each in moves), "some moves", seconds=30)
    end(moves)
    tokens_and_counts(client, moves)
