# SPDX-License-Identifier: Apache-2.0
"""Nodes of the previous release become nodes of this one, one after the other, under load: clients see no error, nothing that
was acknowledged is lost or done twice, and what only the newer version can do is refused until all are new."""
import subprocess
import threading
import time

import pytest
import redis

import previous
from harness import BINARY, Node
from test_cluster import Cluster
from test_shards import fill, shards_of, wait_for
from test_split import VALUES, KEYS, check, is_lost_read, split

COUNT_OF_CLIENTS = 6
ATTEMPTS_MAX = 20


@pytest.fixture(scope="module")
def older():
    try:
        return previous.binary()
    except previous.NotThere as reason:
        pytest.skip(str(reason))


class Client:
    """One that knows what it wrote and checks every answer. It can be sent to another node, as by a load balancer: it goes
    between two commands, so none that is under way is lost."""

    def __init__(self, number, node):
        self.number = number
        self.wanted = self.node = node
        self.turn = 0
        self.refused_count = 0
        self.wrong = []
        self.longest = 0.0
        self.is_over = False
        self.client = self.connect()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def connect(self):
        # The library does not try again by itself, so an error is one.
        return self.node.client(decode_responses=True, socket_timeout=30, retry=None, retry_on_timeout=False)

    def go_to(self, node):
        self.wanted = node
        wait_for(lambda: self.node is node or self.wrong, "the client has moved", seconds=30)

    def run(self):
        try:
            while not self.is_over:
                if self.node is not self.wanted:
                    self.client.close()
                    node = self.wanted
                    self.client = node.client(decode_responses=True, socket_timeout=30, retry=None, retry_on_timeout=False)
                    self.node = node
                started = time.monotonic()
                self.turn += 1
                self.write_and_read()
                self.transact()
                self.longest = max(self.longest, time.monotonic() - started)
        except (redis.RedisError, AssertionError) as error:
            self.wrong.append((self.turn, repr(error)))

    def write_and_read(self):
        """Keys of all shards, alone and in a pipeline."""
        turn = self.turn
        assert self.client.incr(f"u:{self.number}") == turn
        assert self.client.get(f"u:{self.number}") == str(turn)
        keys = [f"u:{self.number}:{i}" for i in range(8)]
        with self.client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.incr(key)
                pipeline.hset(key + ":h", "turn", turn)
                pipeline.hget(key + ":h", "turn")
            pipeline.mget(keys)
            replies = pipeline.execute(raise_on_error=False)
        expected = [turn, 0 if turn > 1 else 1, str(turn)] * 8 + [[str(turn)] * 8]
        for place, (reply, wanted) in enumerate(zip(replies, expected, strict=True)):
            # When a leader that lives loses its office, the previous release forgets reads with any write behind them.
            is_forgotten = self.node.binary != BINARY and place % 3 == 2 and is_lost_read(reply)
            assert reply == wanted or is_forgotten, (place, reply, wanted, replies)

    def transact(self):
        """Over all shards. Refused with TRYAGAIN it has done nothing, and is tried again."""
        for _ in range(ATTEMPTS_MAX):
            try:
                with self.client.pipeline() as transaction:
                    for i in range(4):
                        transaction.incr(f"t:{self.number}:{i}")
                    transaction.get(f"u:{self.number}")
                    assert transaction.execute() == [self.turn] * 4 + [str(self.turn)]
                return
            except redis.ResponseError as error:
                if "TRYAGAIN" not in str(error):
                    raise
                self.refused_count += 1
        raise AssertionError("refused again and again")

    def end(self):
        self.is_over = True
        self.thread.join()
        assert not self.wrong, self.wrong


class Clients:
    def __init__(self, cluster):
        self.cluster = cluster
        self.all = [Client(i, cluster.nodes[i % 3]) for i in range(COUNT_OF_CLIENTS)]

    def leave(self, node):
        others = [each for each in self.cluster.nodes if each is not node]
        for number, client in enumerate(self.all):
            if client.node is node:
                client.go_to(others[number % 2])

    def spread(self):
        for number, client in enumerate(self.all):
            client.go_to(self.cluster.nodes[number % 3])

    def live_on(self, turns=3):
        before = [client.turn for client in self.all]
        wait_for(lambda: all(client.turn >= turn + turns or client.wrong for client, turn in zip(self.all, before)),
                 "the load goes on", seconds=30)
        assert not any(client.wrong for client in self.all), [client.wrong for client in self.all]

    def end(self):
        for client in self.all:
            client.is_over = True
        for client in self.all:
            client.end()

    def check(self, node):
        """Every write that was acknowledged, once, asked of the node."""
        client = node.client(decode_responses=True, socket_timeout=30)
        for each in self.all:
            turn, number = str(each.turn), each.number
            assert client.get(f"u:{number}") == turn
            assert client.mget([f"u:{number}:{i}" for i in range(8)]) == [turn] * 8
            assert client.mget([f"t:{number}:{i}" for i in range(4)]) == [turn] * 4
            assert [client.hget(f"u:{number}:{i}:h", "turn") for i in range(8)] == [turn] * 8


def all_are_in_place(cluster, node):
    shards = shards_of(cluster, node)
    return bool(shards) and all(len(shard["replicas"]) == 3 and not shard["is_moving"] and shard["leader"]
                                and all(each["state"] == "ok" for each in shard["replicas"]) for shard in shards)


def restart(cluster, clients, node, binary):
    """As an operator does: clients go elsewhere, SIGTERM, the other binary, wait until all is well."""
    clients.leave(node)
    assert node.stop() == 0
    node.binary = binary
    node.start()
    steady = next(each for each in cluster.nodes if each is not node)
    wait_for(lambda: all_are_in_place(cluster, steady), "the replicas of the node are back in place")
    clients.spread()
    clients.live_on()


def refusal(node, *arguments):
    answer = subprocess.run([node.binary, "split", *arguments, "--data", str(node.data)], capture_output=True, text=True,
                            timeout=60, check=False)
    assert answer.returncode != 0, answer.stdout
    return answer.stdout + answer.stderr


def try_to_split(node):
    """True once it is done; until the last node has said what it runs, the refusal names it."""
    answer = subprocess.run([node.binary, "split", "--shard", "1", "--data", str(node.data)], capture_output=True, text=True,
                            timeout=60, check=False)
    said = answer.stdout + answer.stderr
    assert answer.returncode == 0 or "bring it up to date first" in said, said
    return answer.returncode == 0


@pytest.mark.parametrize("shard_count", [1, 4])
def test_nodes_become_newer_one_by_one(tmp_path, older, shard_count):
    cluster = Cluster(tmp_path, older)
    try:
        cluster.add(["--shards", str(shard_count)])
        cluster.add()
        cluster.add()
        wait_for(lambda: len(shards_of(cluster)) == shard_count and all_are_in_place(cluster, cluster.nodes[0]), "three replicas")
        live(cluster, older, shard_count)
    finally:
        cluster.stop()


def live(cluster, older, shard_count):
    first, second, third = cluster.nodes
    fill(first.client())
    clients = Clients(cluster)
    clients.live_on()
    restart(cluster, clients, first, BINARY)
    assert "bring it up to date first" in refusal(first, "--shard", "1")
    refusal(second, "--shard", "1")
    # Nothing new was used: the way back is open.
    restart(cluster, clients, first, older)
    restart(cluster, clients, first, BINARY)
    restart(cluster, clients, second, BINARY)
    assert "node 3 runs version" in refusal(second, "--shard", "1")
    refusal(third, "--shard", "1")
    assert len(shards_of(cluster)) == shard_count
    restart(cluster, clients, third, BINARY)
    wait_for(lambda: try_to_split(third), "all nodes have said that they are new", seconds=30)
    clients.live_on()
    wait_for(lambda: all_are_in_place(cluster, second), "the new shard is everywhere")
    split(second, "--shard", str(shard_count + 1))
    clients.live_on()
    clients.end()
    for node in cluster.nodes:
        clients.check(node)
        assert node.client(decode_responses=True).mget(KEYS) == VALUES
    assert len(shards_of(cluster)) == shard_count + 2
    no_way_back(cluster, third, older)
    nobody_older_joins(cluster, older)
    for node in cluster.nodes:
        assert node.stop() == 0
        check(node)


def test_newcomers_of_either_version(tmp_path, older):
    """A newer node joins an older one and an older one joins both, with snapshots: nobody has the log any more."""
    cluster = Cluster(tmp_path, older)
    try:
        first = cluster.add(["--shards", "4"])
        fill(first.client())
        first.client().hset("hash", mapping={f"field:{i}": i for i in range(3000)})
        assert first.stop() == 0
        first.start()
        cluster.binary = BINARY
        second = cluster.add()
        cluster.binary = older
        third = cluster.add()

        def are_in_place():
            """The previous release does not end moves of shards to which nobody writes."""
            with second.client(socket_timeout=30).pipeline(transaction=False) as pipeline:
                for i in range(40):
                    pipeline.set(f"another:{i}", i)
                pipeline.execute()
            return all_are_in_place(cluster, second)
        wait_for(are_in_place, "three replicas")
        for node in (second, third):
            client = node.client(decode_responses=True)
            assert client.mget(KEYS) == VALUES and client.hlen("hash") == 3000
        for dead in (first, third):
            dead.kill()
            alive = [node for node in cluster.nodes if node is not dead]
            for number, node in enumerate(alive):
                client = node.client(decode_responses=True, socket_timeout=30)
                assert client.incr(f"after:{cluster.nodes.index(dead)}") == number + 1
                assert client.mget(KEYS) == VALUES
            dead.start()
            wait_for(are_in_place, "back in place")
    finally:
        cluster.stop()


def no_way_back(cluster, node, older):
    """What has a shard that has split is refused by older software, and untouched."""
    assert node.stop() == 0
    node.binary = older
    node.launch()
    assert node.ended() == 1
    assert "use the version of tutti that wrote it, or a newer one" in node.log()
    node.binary = BINARY
    node.start()
    wait_for(lambda: all_are_in_place(cluster, cluster.nodes[0]), "the node is back")


def nobody_older_joins(cluster, older):
    token = cluster.ask("token")["token"]
    node = Node(cluster.directory / "older", ["--join", f"127.0.0.1:{cluster.nodes[0].peer_port}", "--token", token],
                binary=older)
    node.launch()
    try:
        assert node.ended() == 1
        assert "speaks versions 1 to 1 of the protocol" in node.log()
    finally:
        node.__exit__()
