# SPDX-License-Identifier: Apache-2.0
"""What clients do with data: redis-py, redis-cli and redis-benchmark, unmodified, over RESP2 and RESP3."""
import random
import subprocess
import threading
import time

import pytest
import redis

from harness import BINARY, Node

BULK_FIELDS = 200_000


def cli(node, *words, text=None, resp=2, timeout=60):
    result = subprocess.run(["redis-cli", "-p", str(node.redis_port), f"-{resp}", *words], input=text,
                            capture_output=True, text=True, timeout=timeout, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


class Resp3:
    """A connection that speaks RESP3 and gives Python values; a map is a list of pairs in a tuple."""

    def __init__(self, node):
        self.socket = node.socket()
        self.file = self.socket.makefile("rb")
        assert dict(self("HELLO", "3")[1])[b"proto"] == 3

    def __call__(self, *words):
        encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.socket.sendall(b"*%d\r\n" % len(encoded)
                            + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded))
        return self.read()

    def read(self):
        line = self.file.readline()[:-2]
        kind, rest = line[:1], line[1:]
        if kind in b"+-":
            return rest if kind == b"+" else redis.ResponseError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"_":
            return None
        if kind == b"#":
            return rest == b"t"
        if kind == b",":
            return float(rest)
        if kind in b"$=":
            return self.file.read(int(rest) + 2)[:-2]
        if kind in b"*~>":
            return [self.read() for _ in range(int(rest))]
        if kind == b"%":
            return ("map", [(self.read(), self.read()) for _ in range(int(rest))])
        raise AssertionError(line)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One node for tests that leave nothing behind but data."""
    node = Node(tmp_path_factory.mktemp("shared") / "data").start()
    yield node
    node.stop()


@pytest.fixture
def client(shared):
    client = shared.client()
    client.flushall()
    return client


# ---- redis-py ------------------------------------------------------------------------------------------


def test_strings(client):
    assert client.set("a", b"\x00\xff\r\n")
    assert client.get("a") == b"\x00\xff\r\n"
    assert client.set("a", "1", nx=True) is None
    assert client.set("a", "1", xx=True, get=True) == b"\x00\xff\r\n"
    assert client.incr("a") == 2 and client.decrby("a", 5) == -3
    assert client.incrbyfloat("f", 0.1) == 0.1
    assert client.append("s", "Hello") == 5 and client.append("s", " World") == 11
    assert client.getrange("s", -5, -1) == b"World"
    assert client.setrange("s", 6, "Redis") == 11 and client.get("s") == b"Hello Redis"
    assert client.mset({"x": 1, "y": 2}) and client.mget("x", "none", "y") == [b"1", None, b"2"]
    assert client.msetnx({"x": 5, "z": 5}) is False and client.get("z") is None
    assert client.getdel("x") == b"1" and not client.exists("x")
    assert client.getex("y", ex=100) == b"2" and 0 < client.ttl("y") <= 100
    assert client.setex("t", 10, "v") and client.psetex("u", 10000, "v")
    with pytest.raises(redis.ResponseError, match="not an integer"):
        client.incr("s")


def test_keys(client):
    client.set("a", 1)
    client.hset("h", "f", 1)
    assert client.type("a") == b"string" and client.type("h") == b"hash" and client.type("none") == b"none"
    assert client.rename("a", "b") and client.get("b") == b"1"
    assert client.renamenx("b", "h") is False
    assert client.copy("h", "c") and client.hgetall("c") == {b"f": b"1"}
    assert client.expire("b", 100) and client.ttl("b") > 98 and client.persist("b") and client.ttl("b") == -1
    assert client.expire("b", 100, xx=True) is False and client.expire("b", 100, nx=True)
    assert client.expireat("b", 4102444800) and client.expiretime("b") == 4102444800
    assert client.touch("b", "h", "none") == 2 and client.unlink("b", "c", "none") == 2
    assert sorted(client.keys("*")) == [b"h"] and client.randomkey() == b"h" and client.dbsize() == 1


def test_hashes(client):
    assert client.hset("h", mapping={"a": 1, "b": 2}) == 2
    assert client.hset("h", "a", 3) == 0 and client.hget("h", "a") == b"3"
    assert client.hgetall("h") == {b"a": b"3", b"b": b"2"} and client.hgetall("none") == {}
    assert client.hmget("h", "a", "none") == [b"3", None]
    assert client.hincrby("h", "n", 5) == 5 and client.hincrbyfloat("h", "n", 0.5) == 5.5
    assert client.hsetnx("h", "a", 1) == 0 and client.hexists("h", "a") and client.hstrlen("h", "a") == 1
    assert sorted(client.hkeys("h")) == [b"a", b"b", b"n"] and sorted(client.hvals("h")) == [b"2", b"3", b"5.5"]
    assert client.hlen("h") == 3 and client.hdel("h", "a", "none") == 1
    assert client.hrandfield("h") in (b"b", b"n")
    assert sorted(client.hrandfield("h", 5)) == [b"b", b"n"] and len(client.hrandfield("h", -5)) == 5
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.get("h")
    assert client.hdel("h", "b", "n") == 2 and not client.exists("h")


# What each of them does to keyspace_hits and keyspace_misses is what it does in redis-server 7.0.
@pytest.mark.parametrize("lines, hits, misses", [
    (["get s", "get h", "mget s s", "exists s s", "strlen s", "getrange s 0 0", "ttl s", "expiretime s", "type s", "touch s",
      "hget h f", "hget h none", "hgetall h", "hmget h f none", "hlen h", "hkeys h", "hexists h f", "hstrlen h f", "hrandfield h",
      "hscan h 0", "lcs s s"], 24, 0),
    (["get none", "mget none none", "exists none", "strlen none", "getrange none 0 0", "pttl none", "pexpiretime none",
      "type none", "touch none", "hget none f", "hgetall none", "hmget none f g", "hlen none", "hvals none", "hexists none f",
      "hscan none 0", "lcs none none"], 0, 19),
    (["dbsize", "keys *", "scan 0", "randomkey", "set s 2", "append s 2", "hset h g 1", "del none", "expire none 5", "incr n",
      "setnx s 1", "persist s", "watch s", "unwatch", "get", "mget s none"], 1, 1),
])
def test_keys_that_reads_find_are_counted(client, lines, hits, misses):
    client.set("s", "1")
    client.hset("h", "f", "v")

    def counts():
        """At rest: nodes gather them many times a second."""
        latest = None
        while True:
            stats = client.info("stats")
            if (stats["keyspace_hits"], stats["keyspace_misses"]) == latest:
                return latest
            latest = stats["keyspace_hits"], stats["keyspace_misses"]
            time.sleep(0.1)

    before = counts()
    for line in lines:
        try:
            client.execute_command(*line.split(" "))
        except redis.ResponseError:
            pass  # Some are of the wrong type.
    time.sleep(0.1)
    after = counts()
    assert (after[0] - before[0], after[1] - before[1]) == (hits, misses)


def test_an_expired_key_is_never_seen(client):
    """At the millisecond, by any command, also before it is removed."""
    client.set("a", 1, px=60)
    client.hset("h", "f", 1)
    client.pexpire("h", 60)
    deadline = time.monotonic() + 0.07
    while time.monotonic() < deadline:
        time.sleep(0.002)
    assert client.get("a") is None and client.hgetall("h") == {} and client.exists("a", "h") == 0
    assert client.keys("*") == [] and client.randomkey() is None
    assert client.hset("h", "g", 2) == 1 and client.ttl("h") == -1


def test_transactions(client, shared):
    other = shared.client()
    with client.pipeline() as pipe:
        pipe.set("a", 1).incr("a").hset("h", "f", 1).get("h")
        results = pipe.execute(raise_on_error=False)
        assert results[:3] == [True, 2, 1] and isinstance(results[3], redis.ResponseError)
        pipe.watch("a")
        other.set("a", 5)
        pipe.multi()
        pipe.set("a", 6)
        with pytest.raises(redis.WatchError):
            pipe.execute()
    assert client.get("a") == b"5"

    def add(times):
        mine = shared.client()
        for _ in range(times):
            mine.transaction(lambda pipe: (lambda n: (pipe.multi(), pipe.set("n", n + 1)))(int(pipe.get("n") or 0)), "n")

    threads = [threading.Thread(target=add, args=(25,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert client.get("n") == b"100"


def test_scanning_finds_what_stays(client):
    """Every key and field that exists during the whole walk is returned, whatever else comes and goes."""
    chance = random.Random(1)
    client.mset({f"stays{i}": i for i in range(500)})
    client.hset("h", mapping={f"stays{i}": i for i in range(500)})
    keys, fields = set(), set()
    cursor = None
    while cursor != 0:
        cursor, page = client.scan(cursor or 0, match="stays*", count=chance.randint(1, 50))
        keys.update(page)
        client.set(f"new{chance.random()}", 1)
        client.delete(f"new{chance.random()}")
    cursor = None
    while cursor != 0:
        cursor, page = client.hscan("h", cursor or 0, match="stays*", count=chance.randint(1, 50))
        fields.update(page)
        client.hset("h", f"new{chance.random()}", 1)
    assert keys == {f"stays{i}".encode() for i in range(500)}
    assert fields == {f"stays{i}".encode() for i in range(500)}
    assert list(client.scan_iter(match="h", _type="hash")) == [b"h"]


def test_a_large_hash_goes_at_once(client, shared):
    """DEL of a large hash takes no longer than that of a small one, and the key can be used again at once."""
    for first in range(0, BULK_FIELDS, 10_000):
        client.hset("large", mapping={f"field{i}": i for i in range(first, first + 10_000)})
    assert client.hlen("large") == BULK_FIELDS
    assert client.hrandfield("large").startswith(b"field")
    started = time.monotonic()
    assert client.delete("large") == 1
    took = time.monotonic() - started
    assert took < 0.5, f"{took:.3f} s"
    assert client.hset("large", "f", 1) == 1 and client.hgetall("large") == {b"f": b"1"}


def test_data_survives_a_restart(make_node):
    node = make_node().start()
    client = node.client()
    client.set("a", 1, ex=1000)
    client.hset("h", mapping={f"f{i}": i for i in range(300)})
    client.hset("gone", mapping={f"f{i}": i for i in range(300)})
    client.delete("gone")
    node.kill()
    node.start()
    client = node.client()
    assert client.get("a") == b"1" and 900 < client.ttl("a") <= 1000
    assert client.hlen("h") == 300 and client.hget("h", "f7") == b"7" and client.hgetall("gone") == {}
    assert node.stop() == 0
    check = subprocess.run([str(BINARY), "check", str(node.data)], capture_output=True, text=True, timeout=60,
                           check=False)
    assert check.returncode == 0, check.stdout + check.stderr
    node.start()
    assert node.client().hgetall("h") == {f"f{i}".encode(): str(i).encode() for i in range(300)}


# ---- RESP3 ---------------------------------------------------------------------------------------------


def test_types_of_resp3(client, shared):
    """Maps, nulls and nested pairs where Redis has them; arrays elsewhere."""
    say = Resp3(shared)
    assert say("SET", "a", "1") == b"OK" and say("GET", "none") is None and say("GET", "a") == b"1"
    assert say("HSET", "h", "f", "1") == 1
    assert say("HGETALL", "h") == ("map", [(b"f", b"1")]) and say("HGETALL", "none") == ("map", [])
    assert say("HRANDFIELD", "h", "1", "WITHVALUES") == [[b"f", b"1"]]
    assert say("HKEYS", "h") == [b"f"] and say("HMGET", "h", "f", "g") == [b"1", None]
    assert say("HSCAN", "h", "0") == [b"0", [b"f", b"1"]]
    assert say("INCRBYFLOAT", "a", "0.5") == b"1.5"
    assert say("LCS", "a", "a", "IDX") == ("map", [(b"matches", [[[0, 2], [0, 2]]]), (b"len", 3)])
    assert isinstance(say("GET", "h"), redis.ResponseError)
    assert say("MULTI") == b"OK" and say("GET", "none") == b"QUEUED" and say("EXEC") == [None]
    assert say("WATCH", "a") == b"OK"
    client.set("a", 2)
    assert say("MULTI") == b"OK" and say("GET", "a") == b"QUEUED" and say("EXEC") is None


# ---- redis-cli and redis-benchmark ---------------------------------------------------------------------


def test_redis_cli(client, shared):
    assert cli(shared, "SET", "a", "hello") == "OK\n"
    assert cli(shared, "-x", "SET", "b", text="from a file") == "OK\n"
    assert cli(shared, text="GET a\nHSET h f v\nHGETALL h\n", resp=3) == "hello\n1\nf v\n"
    assert sorted(cli(shared, "--scan").split()) == ["a", "b", "h"]
    assert cli(shared, "--scan", "--pattern", "[ab]").count("\n") == 2
    assert "Biggest   hash found" in cli(shared, "--bigkeys")
    assert "WRONGTYPE" in cli(shared, "GET", "h")


def test_redis_cli_pipe(client, shared):
    """Mass insertion: errors and replies are counted right."""
    commands = "".join(f"*3\r\n$3\r\nSET\r\n$8\r\nk{i:07d}\r\n$1\r\nx\r\n" for i in range(10_000))
    assert "errors: 0, replies: 10000" in cli(shared, "--pipe", text=commands)
    assert client.dbsize() == 10_000


@pytest.mark.parametrize("pipeline", [1, 16])
def test_redis_benchmark(client, shared, pipeline):
    result = subprocess.run(["redis-benchmark", "-p", str(shared.redis_port), "-t", "set,get,hset,incr,mset", "-n",
                             "2000", "-c", "20", "-P", str(pipeline), "--csv"], capture_output=True, text=True,
                            timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    rows = [line.split(",") for line in result.stdout.strip().split("\n")]
    rates = {row[0].strip('"'): float(row[1].strip('"')) for row in rows[1:]}
    assert {"SET", "GET", "HSET", "INCR", "MSET (10 keys)"} <= set(rates), result.stdout
    assert all(rate > 0 for rate in rates.values())


def test_exec_that_is_refused_for_its_form_ends_the_transaction(node):
    """As Redis: what follows is not queued."""
    connection = redis.Connection(port=node.redis_port)
    answers = []
    for words in (["MULTI"], ["SET", "a", "1"], ["EXEC", "x"], ["PING"], ["GET", "a"]):
        connection.send_command(*words)
        try:
            answers.append(connection.read_response())
        except redis.RedisError as error:
            answers.append(str(error))
    connection.disconnect()
    assert answers == [b"OK", b"QUEUED", "Transaction discarded because of: wrong number of arguments for 'exec' command", b"PONG",
                       None]


@pytest.mark.parametrize("flush", ["always", "everysec"])
def test_when_all_was_durable_last(make_node, flush):
    """Claim: LASTSAVE is the time when all answered writes were durable, last: now, or some seconds ago at most."""
    client = make_node("--flush", flush).start().client()

    def age():
        """When it was asked, so that it does not count how long the answer took. Seconds are cut off."""
        asked_at = time.time()
        last = client.lastsave().timestamp()
        assert last <= time.time(), "nothing is durable before it was asked for"
        return asked_at - last

    for _ in range(3):
        client.set("k", "v")
        assert age() <= (1.5 if flush == "always" else 4)
        time.sleep(0.7)
    deadline = time.monotonic() + 10
    while age() > 1.5:
        assert time.monotonic() < deadline, "something waits for a flush"
        time.sleep(0.1)


def test_encodings(node):
    """Claim: OBJECT ENCODING says what Redis would choose for such a value."""
    client = node.client()
    for value, encoding in (("12", b"int"), ("x" * 44, b"embstr"), ("x" * 45, b"raw")):
        client.set("k", value)
        assert client.object("encoding", "k") == encoding
    limit = int(client.config_get("hash-max-listpack-entries")["hash-max-listpack-entries"])
    client.hset("h", mapping={i: i for i in range(limit)})
    assert client.object("encoding", "h") == b"listpack"
    client.hset("h", "one", "more")
    assert client.object("encoding", "h") == b"hashtable"
