# SPDX-License-Identifier: Apache-2.0
"""Hostile clients: whatever they send or do not read, memory stays within its bound and others are served."""
import os
import random
import resource
import socket
import time

import pytest
import redis

MEBIBYTE = 1024 * 1024
IDLE_CONNECTIONS = 10000
LENGTHS = [b"*99999999999999999999\r\n", b"*-99999999999999999999\r\n", b"*nan\r\n", b"*1e3\r\n", b"*+1\r\n",
           b"* 1\r\n", b"*1048577\r\n", b"*2147483648\r\n", b"*\r\n", b"*0x10\r\n",
           b"*1\r\n$99999999999999999999\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$-2147483649\r\n", b"*1\r\n$nan\r\n",
           b"*1\r\n$inf\r\n", b"*1\r\n$\r\n", b"*1\r\n$536870913\r\n", b"*1\r\n$4294967300\r\n", b"*1\r\n:1\r\n",
           b"*2\r\n$4\r\nPING\r\n#t\r\n", b"SET \"unbalanced\r\n", b"x" * 70000]
STRANGER_LENGTHS = [b"*11\r\n", b"*1048576\r\n", b"*2\r\n$16385\r\n", b"*2\r\n$4\r\nAUTH\r\n$536870912\r\n"]


def resident_bytes(node):
    with open(f"/proc/{node.process.pid}/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def read_until_closed(connection):
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def read_line(connection):
    received = b""
    while not received.endswith(b"\r\n"):
        data = connection.recv(1)
        assert data, f"closed after {received!r}"
        received += data
    return received


def is_served(node, seconds=2.0):
    """Another client is answered, soon."""
    start = time.monotonic()
    with node.socket() as connection:
        connection.sendall(b"PING\r\n")
        answer = read_line(connection)
    return answer.startswith((b"+PONG", b"-NOAUTH")) and time.monotonic() - start < seconds


@pytest.mark.parametrize("password", [None, "secret"])
def test_lengths_that_are_none(make_node, password):
    """Every impossible length is a protocol error in words, and costs the client its connection."""
    node = make_node(*(["--requirepass", password] if password else [])).start()
    for request in LENGTHS + (STRANGER_LENGTHS if password else []):
        with node.socket() as connection:
            connection.sendall(request)
            answer = read_until_closed(connection)
            assert answer.startswith(b"-ERR Protocol error: "), (request[:40], answer)
    if password:
        for request in LENGTHS:
            with node.socket() as connection:
                connection.sendall(b"AUTH secret\r\n" + request)
                answer = read_until_closed(connection)
                assert answer.startswith(b"+OK\r\n-ERR Protocol error: "), (request[:40], answer)
    assert is_served(node)


def test_random_bytes(node):
    """Noise never ends the server. (A seed per run would find more; the fuzz targets do that.)"""
    noise = random.Random(1)
    for _ in range(200):
        with node.socket() as connection:
            try:
                start = noise.choice([b"", b"*3\r\n", b"*1\r\n$5\r\n", b"*2\r\n$3\r\nGET\r\n"])
                connection.sendall(start + noise.randbytes(noise.randrange(1, 2000)))
            except OSError:
                pass
    assert is_served(node)


def test_announced_sizes_cost_nothing(make_node):
    """1000 clients announce half a gigabyte each and send a little of it."""
    node = make_node("--memory", "512mb").start()
    limit = int(node.client().config_get("proto-max-bulk-len")["proto-max-bulk-len"])
    before = resident_bytes(node)
    connections = []
    for number in range(1000):
        connection = node.socket()
        size = limit if number % 2 else 512 * MEBIBYTE
        connection.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % size + b"x" * 1000)
        connections.append(connection)
    assert is_served(node)
    assert resident_bytes(node) - before < 64 * MEBIBYTE
    for connection in connections:
        connection.close()
    assert is_served(node)


def test_unfinished_values_stay_within_the_budget(make_node):
    """Many clients keep large values unfinished: the largest are cut off, the rest of the world goes on."""
    node = make_node("--memory", "512mb").start()
    limit = int(node.client().config_get("proto-max-bulk-len")["proto-max-bulk-len"])
    size = min(limit, 32 * MEBIBYTE)
    connections = []
    for _ in range(40):
        connection = node.socket()
        connection.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % size)
        try:
            connection.sendall(b"x" * (size - 1))
        except OSError:
            pass  # Cut off.
        connections.append(connection)
        assert resident_bytes(node) < 700 * MEBIBYTE
    assert is_served(node)
    assert int(node.client().info("stats")["evicted_clients"]) > 0
    for connection in connections:
        connection.close()
    assert is_served(node)


def test_clients_that_never_read(make_node):
    """200 clients ask for large values and read none: they are not served further, and memory stays bounded."""
    node = make_node("--memory", "512mb").start()
    client = node.client()
    client.set("large", b"x" * MEBIBYTE)
    request = b"GET large\r\n" * 1000
    connections = []
    for _ in range(200):
        connection = node.socket()
        connection.setblocking(False)
        try:
            connection.send(request)
        except BlockingIOError:
            pass
        connections.append(connection)
    largest = 0
    for _ in range(20):
        time.sleep(0.1)
        largest = max(largest, resident_bytes(node))
        assert is_served(node)
    assert largest < 700 * MEBIBYTE, f"{largest / MEBIBYTE:.0f} MiB"
    for connection in connections:
        connection.close()
    assert client.get("large") == b"x" * MEBIBYTE


def test_ten_thousand_idle_connections(node):
    """An idle connection costs little memory, and no time of others."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(IDLE_CONNECTIONS, hard - 200)
    if count < IDLE_CONNECTIONS:
        print(f"scaled to {count}: the limit of open files is {hard}")
    client = node.client()
    client.config_set("maxclients", IDLE_CONNECTIONS + 100)
    before = resident_bytes(node)
    connections = []
    try:
        for number in range(count):
            connections.append(socket.create_connection(("127.0.0.1", node.redis_port)))
            if number % 100 == 0:
                assert client.ping()
        # connect() returns before the node has accepted.
        deadline = time.monotonic() + 60
        while int(client.info("clients")["connected_clients"]) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        assert int(client.info("clients")["connected_clients"]) >= count
        for connection in connections[::100]:
            connection.sendall(b"SET idle 1\r\n")
            assert connection.recv(64) == b"+OK\r\n"
        cost = (resident_bytes(node) - before) / count
        assert cost < 3000, f"{cost:.0f} bytes per idle connection"
        start = time.monotonic()
        for _ in range(100):
            assert client.ping()
        assert time.monotonic() - start < 2
    finally:
        for connection in connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert is_served(node)


def test_clients_never_take_the_last_file(make_node):
    """With few files to open, there are few clients: the store goes on opening its own."""
    node = make_node("--memory", "64mb", wrapper=["prlimit", "--nofile=700:700"]).start()
    client = node.client()
    allowed = int(client.config_get("maxclients")["maxclients"])
    assert 50 < allowed < 300 and "node.few_clients" in node.log()
    connections = [node.socket() for _ in range(800)]
    value = os.urandom(MEBIBYTE)
    for number in range(100):  # Makes table files.
        assert client.set(f"k{number}", value)
    for connection in connections:
        connection.close()
    assert node.stop() == 0 and "Too many open files" not in node.log()
    node = make_node(wrapper=["prlimit", "--nofile=200:200"], name="fewer")
    node.launch()
    assert node.ended() == 1
    assert "ulimit -n" in node.log().splitlines()[-1]


def test_too_many_clients(node):
    """Above maxclients a client is told so, in the words of Redis."""
    client = node.client()
    client.config_set("maxclients", 5)
    connections = [node.socket() for _ in range(10)]
    refused = 0
    for connection in connections:
        connection.sendall(b"PING\r\n")
        refused += connection.recv(64) == b"-ERR max number of clients reached\r\n"
        connection.close()
    assert 5 <= refused <= 6
    time.sleep(0.2)
    assert is_served(node)


def test_one_byte_at_a_time(node):
    """Slow clients are served in the end, and slow nobody else. (A byte each 10 ms instead of each second.)"""
    request = b"*3\r\n$3\r\nSET\r\n$4\r\nslow\r\n$5\r\nvalue\r\n"
    connections = [node.socket() for _ in range(50)]
    client = node.client()
    for position in range(len(request)):
        for connection in connections:
            connection.sendall(request[position:position + 1])
        start = time.monotonic()
        assert client.ping()
        assert time.monotonic() - start < 1
        time.sleep(0.01)
    for connection in connections:
        assert connection.recv(64) == b"+OK\r\n"
        connection.close()
    assert client.get("slow") == b"value"


@pytest.mark.parametrize("request_bytes", [
    b"POST / HTTP/1.1\r\nHost: localhost:6379\r\nContent-Length: 30\r\n\r\nSET hacked 1\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost:6379\r\n\r\nSET hacked 1\r\n"])
def test_http_request(node, request_bytes):
    """What a browser was tricked into sending is not executed."""
    with node.socket() as connection:
        connection.sendall(request_bytes)
        read_until_closed(connection)
    assert node.client().get("hacked") is None


def test_binary_keys(node):
    """Keys and values are bytes, whatever they are."""
    client = node.client()
    keys = [bytes(range(256)), b"\x00", b"\r\n", b"*3\r\n$3\r\nSET\r\n", b"", b"\xff" * 300, "ключ".encode()]
    for key in keys:
        assert client.set(key, key + b"\x00\r\n")
    for key in keys:
        assert client.get(key) == key + b"\x00\r\n"
    assert client.dbsize() == len(keys)
    assert set(client.scan_iter(count=100)) == set(keys)


def test_values_at_and_above_the_limit(make_node):
    """A value of exactly the limit works; a longer one is a clear error, and the connection goes on."""
    node = make_node("--memory", "512mb").start()
    limit = int(node.client().config_get("proto-max-bulk-len")["proto-max-bulk-len"])
    client = node.client(socket_timeout=60)
    value = b"x" * limit
    assert client.set("limit", value)
    assert client.get("limit") == value
    with node.socket(timeout=60) as connection:
        connection.sendall(b"*3\r\n$3\r\nSET\r\n$5\r\nabove\r\n$%d\r\n" % (limit + 1))
        connection.sendall(value + b"x\r\n")
        assert read_line(connection) == b"-ERR value of %d bytes exceeds the limit of %d bytes\r\n" % (
            limit + 1, limit)
        connection.sendall(b"EXISTS above\r\n")
        assert read_line(connection) == b":0\r\n"
    with node.socket(timeout=60) as connection:
        connection.sendall(b"*3\r\n$3\r\nSET\r\n$5\r\nabove\r\n$%d\r\n" % (512 * MEBIBYTE))
        chunk = b"x" * MEBIBYTE
        for _ in range(512):
            connection.sendall(chunk)
        connection.sendall(b"\r\nPING\r\n")
        assert b"exceeds the limit" in read_line(connection)
        assert read_line(connection) == b"+PONG\r\n"
    assert resident_bytes(node) < 700 * MEBIBYTE


def test_deep_pipelines(node):
    """A client that pipelines without end is answered in order, whole."""
    with node.socket(timeout=60) as connection:
        count = 20000
        requests = b"".join(b"INCR counter\r\nECHO %d\r\n" % number for number in range(count))
        connection.sendall(requests)
        received = b""
        expected = b"".join(b":%d\r\n$%d\r\n%d\r\n" % (number + 1, len(str(number)), number)
                            for number in range(count))
        while len(received) < len(expected):
            data = connection.recv(1 << 20)
            assert data
            received += data
        assert received == expected


def test_a_short_request_makes_no_huge_value(make_node):
    """SETRANGE makes of some bytes what it is told; that has the limit of values, too."""
    node = make_node("--memory", "64mb").start()
    client = node.client()
    limit = int(client.config_get("proto-max-bulk-len")["proto-max-bulk-len"])
    assert limit < 512 << 20
    assert client.setrange("k", limit - 1, b"x") == limit
    for offset in (limit, 500 << 20, 2 ** 63 - 1):
        with pytest.raises(redis.ResponseError, match="string exceeds maximum allowed size"):
            client.setrange("k", offset, b"x")
    assert client.setrange("k", 500 << 20, b"") == limit
    with pytest.raises(redis.ResponseError, match="out of range"):
        client.setrange("k", -1, b"x")
    with pytest.raises(redis.RedisError):
        client.pipeline().setrange("k", 500 << 20, b"x").set("other", 1).execute()
    assert client.strlen("k") == limit and client.get("other") is None
