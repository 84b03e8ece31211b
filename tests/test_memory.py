# SPDX-License-Identifier: Apache-2.0
"""--memory is a bound: resident memory stays below it, plus a fixed overhead, whatever clients do."""
import multiprocessing
import os
import pathlib
import random
import socket
import time

import pytest
import redis
import redis.crc

from test_cluster import Cluster

MIB = 1 << 20
MEMORY_MIB = 256
QUEUE_MIB = 64  # What waits for another node at most.
OVERHEAD_MIB = 32  # Code, stacks, what RocksDB keeps outside of its cache, what malloc leaves unused.
DATA_MIB = int(os.environ.get("DATA_MIB", "512"))
VALUE_SIZE = 1024
CLIENTS = 4
BATCH = 512  # Requests that a client sends before it reads the replies.


def resident_mib(pid, what="VmRSS"):
    """Resident memory now, or (VmHWM) the most that it ever was."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"no {what}")


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.file = self.socket.makefile("rb", 1 << 16)

    def ask(self, requests):
        self.socket.sendall(b"".join(requests))
        return [self.reply() for _ in requests]

    def reply(self):
        line = self.file.readline()
        assert line.endswith(b"\r\n") and line[:1] in b"+$:", line
        size = int(line[1:]) if line[:1] == b"$" else -1
        return self.file.read(size + 2)[:-2] if size >= 0 else line


def set_request(key):
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n" % (len(key), key, VALUE_SIZE, os.urandom(VALUE_SIZE))


def get_request(key):
    return b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key)


def load(port, number, count):
    """SET `count` keys; among them GET and overwrite keys of any age."""
    choose = random.Random(number)
    client = Client(port)
    done = 0
    while done < count:
        batch = []
        for _ in range(BATCH):
            old = b"k:%d:%d" % (number, choose.randrange(done + 1))
            what = choose.random()
            if what < 0.60:
                batch.append(set_request(b"k:%d:%d" % (number, done)))
                done += 1
            elif what < 0.65:
                batch.append(set_request(old))
            else:
                batch.append(get_request(old))
        client.ask(batch)


def metrics(node):
    lines = [line for line in node.get("/metrics")[1].splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_memory_stays_within_its_bound(make_node):
    node = make_node("--memory", f"{MEMORY_MIB}mb").start()
    count = DATA_MIB * MIB // VALUE_SIZE // CLIENTS
    processes = [multiprocessing.Process(target=load, args=(node.redis_port, number, count), daemon=True)
                 for number in range(CLIENTS)]
    started = time.monotonic()
    for process in processes:
        process.start()
    samples = []
    while any(process.is_alive() for process in processes):
        samples.append(resident_mib(node.process.pid))
        time.sleep(0.1)
    assert [process.exitcode for process in processes] == [0] * CLIENTS, node.log()[-2000:]
    samples.sort()
    most = resident_mib(node.process.pid, "VmHWM")
    print(f"{DATA_MIB} MiB in {time.monotonic() - started:.0f} s; resident MiB: median {samples[len(samples) // 2]:.0f}, "
          f"p99 {samples[len(samples) * 99 // 100]:.0f}, most {most:.0f}")
    assert most < MEMORY_MIB + OVERHEAD_MIB
    assert node.client().dbsize() >= count * CLIENTS
    # The data did not fit: what was not in memory came from the disk, and the figures say so.
    figures = metrics(node)
    assert figures["tutti_shard_reads_elsewhere_total"] > 0
    assert figures["tutti_store_block_hits_total"] > 0 and figures["tutti_store_block_misses_total"] > 0
    # Nor does a replay take more.
    node.kill()
    node.start()
    most = resident_mib(node.process.pid, "VmHWM")
    print(f"after a replay of {metrics(node)['tutti_replay_entries_total']:.0f} entries: {most:.0f}")
    assert most < MEMORY_MIB + OVERHEAD_MIB
    assert node.client().dbsize() >= count * CLIENTS


def wait_for_key(client, key):
    deadline = time.monotonic() + 120
    while client.get(key) is None:
        assert time.monotonic() < deadline, key
        time.sleep(0.01)


def request(words):
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def exec_request(commands):
    return b"".join(request(words) for words in [[b"MULTI"], *commands, [b"EXEC"]])


def test_a_short_request_cannot_ask_for_an_answer_beyond_memory(make_node):
    """Each would answer gigabytes. An EXEC is in the log, too: what it takes, every replay and every replica takes."""
    node = make_node("--memory", f"{MEMORY_MIB}mb").start()
    client = node.client()
    client.set("v", os.urandom(MIB))
    client.hset("h", "f", os.urandom(MIB))
    for words in (["MGET"] + ["v"] * 3000, ["HMGET", "h"] + ["f"] * 3000, ["HRANDFIELD", "h", "-3000", "WITHVALUES"]):
        with pytest.raises(redis.ResponseError, match=f"the answer of '{words[0].lower()}' is larger than the limit of"):
            client.execute_command(*words)
    connection = Client(node.redis_port)
    connection.socket.sendall(exec_request([[b"GET", b"v"]] * 3000 + [[b"SET", b"done", b"1"]]))
    for _ in range(3002):
        assert connection.file.readline() in (b"+OK\r\n", b"+QUEUED\r\n")
    assert connection.file.readline() == b"*3001\r\n"
    assert len(connection.reply()) == MIB
    wait_for_key(client, "done")
    most = resident_mib(node.process.pid, "VmHWM")
    node.kill()
    node.start()
    replayed = resident_mib(node.process.pid, "VmHWM")
    print(f"resident MiB: most {most:.0f}, after a replay {replayed:.0f}")
    assert most < MEMORY_MIB + OVERHEAD_MIB and replayed < MEMORY_MIB + OVERHEAD_MIB
    assert node.client().get("done") == b"1"


def test_answers_of_the_gateway_in_exec_stay_within_memory(make_node):
    """COMMAND answers some 30 KB, and is answered before EXEC is executed."""
    node = make_node("--memory", f"{MEMORY_MIB}mb").start()
    connection = Client(node.redis_port)
    connection.socket.sendall(exec_request([[b"SET", b"first", b"1"]] + [[b"COMMAND", b"DOCS"]] * 15000 + [[b"CLIENT", b"ID"]]))
    client = node.client()
    wait_for_key(client, "first")
    most = resident_mib(node.process.pid, "VmHWM")
    print(f"resident MiB: most {most:.0f}")
    assert most < MEMORY_MIB + OVERHEAD_MIB


def test_answers_of_several_shards_stay_within_memory(make_node):
    """Each shard limits what it answers, and all together do not answer more."""
    shard_count = 64
    node = make_node("--memory", f"{MEMORY_MIB}mb", "--shards", str(shard_count)).start()
    client = node.client()
    keys = {}
    for number in range(100000):
        keys.setdefault(redis.crc.key_slot(b"k%d" % number) * shard_count // 16384, b"k%d" % number)
        if len(keys) == shard_count:
            break
    for key in keys.values():
        client.set(key, os.urandom(MIB))
    asked = list(keys.values()) * 4
    with pytest.raises(redis.ResponseError, match="the answer of 'mget' is larger than the limit of"):
        client.mget(asked)
    most = resident_mib(node.process.pid, "VmHWM")
    transaction = client.pipeline(transaction=True)
    for key in asked:
        transaction.get(key)
    transaction.set("done", 1)
    with pytest.raises(redis.ResponseError, match="committed, the answer of 'exec' is larger than the limit of"):
        transaction.execute()
    most_of_exec = resident_mib(node.process.pid, "VmHWM")
    print(f"resident MiB: most of MGET {most:.0f}, of EXEC {most_of_exec:.0f}")
    assert most < MEMORY_MIB + OVERHEAD_MIB and most_of_exec < MEMORY_MIB + OVERHEAD_MIB
    assert client.get("done") == b"1"


def test_answers_of_the_gateway_in_exec_may_be_as_long_as_a_request(make_node):
    """What buffers have in reserve is not counted."""
    node = make_node("--memory", "200mb").start()
    connection = Client(node.redis_port)
    connection.socket.sendall(exec_request([[b"ECHO", bytes(MIB)]] * 17))
    for _ in range(18):
        assert connection.file.readline() in (b"+OK\r\n", b"+QUEUED\r\n")
    assert connection.file.readline() == b"*17\r\n"
    assert [len(connection.reply()) for _ in range(17)] == [MIB] * 17


def have_much_answered(node):
    """A hundred connections, of each an EXEC that answers 30 MiB and is over; nothing was read."""
    client = node.client(socket_timeout=60)
    client.set("v", os.urandom(MIB))
    connections = [Client(node.redis_port) for _ in range(100)]
    for number, connection in enumerate(connections):
        connection.socket.sendall(exec_request([[b"MGET"] + [b"v"] * 30, [b"SET", b"done:%d" % number, b"1"]]))
    for number in range(len(connections)):
        wait_for_key(client, f"done:{number}")
    return connections


def test_large_answers_of_many_at_once_stay_within_memory(make_node):
    """What they will answer nobody knows when they come, and one entry of the log has many of them."""
    node = make_node("--memory", f"{MEMORY_MIB}mb").start()
    connections = have_much_answered(node)
    most = resident_mib(node.process.pid, "VmHWM")
    print(f"resident MiB: most {most:.0f}")
    assert most < MEMORY_MIB + OVERHEAD_MIB
    del connections  # They were there until now, and nothing was read.


def test_short_commands_that_make_large_values_stay_within_memory(make_node):
    """Each makes a value of 1 MiB of a few bytes, and all come at once: twice --memory, and as much again in a replay."""
    memory_mib = 64
    node = make_node("--memory", f"{memory_mib}mb").start()
    connections = [Client(node.redis_port) for _ in range(2 * memory_mib)]

    def ask_of_all(make_words):
        for number, connection in enumerate(connections):
            connection.socket.sendall(request(make_words(b"v:%d" % number)))
        return {connection.reply() for connection in connections}

    figures = []
    assert ask_of_all(lambda key: [b"SETRANGE", key, b"%d" % (MIB - 1), b"x"]) == {b":%d\r\n" % MIB}
    figures.append(resident_mib(node.process.pid, "VmHWM"))
    assert ask_of_all(lambda key: [b"APPEND", key, b"y"]) == {b":%d\r\n" % (MIB + 1)}
    figures.append(resident_mib(node.process.pid, "VmHWM"))
    assert ask_of_all(lambda key: [b"EXPIRE", key, b"10000"]) == {b":1\r\n"}
    figures.append(resident_mib(node.process.pid, "VmHWM"))
    print("resident MiB, most: after SETRANGE {:.0f}, APPEND {:.0f}, EXPIRE {:.0f}".format(*figures))
    assert max(figures) < memory_mib + OVERHEAD_MIB
    node.kill()
    node.start()
    most = resident_mib(node.process.pid, "VmHWM")
    print(f"after a replay: {most:.0f}")
    assert most < memory_mib + OVERHEAD_MIB
    for number in (0, len(connections) - 1):
        assert node.client().getrange(f"v:{number}", MIB - 2, -1) == b"\0xy"


def test_one_transaction_stays_within_memory(make_node):
    """What the commands of an EXEC load is there at the same time: beyond a quarter of --memory it is refused, as is COPY of a hash."""
    memory_mib = 64
    node = make_node("--memory", f"{memory_mib}mb").start()
    client = node.client()
    client.setrange("v", MIB - 1, "x")
    for make in (lambda pipe, number: pipe.append("v", "y"), lambda pipe, number: pipe.copy("v", f"c:{number}"),
                 lambda pipe, number: pipe.setrange(f"s:{number}", MIB - 1, "x")):
        pipe = client.pipeline()
        for number in range(4 * memory_mib):
            make(pipe, number)
        with pytest.raises(redis.ResponseError, match="OOM command not allowed: the values"):
            pipe.execute()
    for number in range(memory_mib):
        client.hset("h", f"f:{number}", b"v" * (MIB // 2))
    with pytest.raises(redis.ResponseError, match="OOM command not allowed: the values"):
        client.copy("h", "i")
    assert client.strlen("v") == MIB and client.dbsize() == 2 and client.hlen("h") == memory_mib
    pipe = client.pipeline()
    for _ in range(memory_mib // 8):
        pipe.append("v", "y")
    assert pipe.execute()[-1] == MIB + memory_mib // 8
    most = resident_mib(node.process.pid, "VmHWM")
    print(f"resident MiB: most {most:.0f}")
    assert most < memory_mib + OVERHEAD_MIB


def test_large_answers_through_another_node_stay_within_memory(tmp_path):
    """The leader has the answers for clients of another node until they are sent; the connection takes some, too."""
    cluster = Cluster(tmp_path)
    try:
        for _ in range(3):
            cluster.add(memory=f"{MEMORY_MIB}mb")
        cluster.wait_for_voters(3)
        leader = cluster.leader()
        other = next(node for node in cluster.nodes if node is not leader)
        connections = have_much_answered(other)
        most = max(resident_mib(node.process.pid, "VmHWM") for node in cluster.nodes)
        print(f"resident MiB: most {most:.0f}")
        assert most < MEMORY_MIB + OVERHEAD_MIB + QUEUE_MIB
        del connections  # They were there until now, and nothing was read.
    finally:
        cluster.stop()
