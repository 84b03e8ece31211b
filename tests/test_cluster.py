# SPDX-License-Identifier: Apache-2.0
"""Several nodes are one service: joining, any node takes any command, a leader dies, nodes stop and come back."""
import json
import os
import socket
import subprocess
import threading
import time

import pytest
import redis

from harness import BINARY, Node

JOIN_SECONDS_MAX = 60


class Cluster:
    """Nodes that join the first one, each with a token of its own."""

    def __init__(self, directory, binary=BINARY):
        self.directory = directory
        self.binary = binary
        self.nodes = []

    def ask(self, *words, node=None):
        """What `tutti WORDS --json` of a node says."""
        node = node or self.nodes[0]
        answer = subprocess.run([node.binary, *words, "--data", str(node.data), "--json"], capture_output=True, text=True,
                                timeout=60, check=False)
        return json.loads(answer.stdout) if answer.stdout.strip() else {"error": answer.stderr}

    def add(self, arguments=(), token=None, memory="128mb", environment=None):
        number = len(self.nodes) + 1
        arguments = ["--memory", memory, *arguments]
        if self.nodes:
            token = token or self.ask("token")["token"]
            arguments += ["--join", f"127.0.0.1:{self.nodes[0].peer_port}", "--token", token]
        node = Node(self.directory / f"node{number}", arguments, environment, binary=self.binary)
        self.nodes.append(node)
        node.start()
        return node

    def wait(self, claim, what, seconds=JOIN_SECONDS_MAX, node=None):
        deadline = time.monotonic() + seconds
        shards = {}
        while time.monotonic() < deadline:
            shards = self.ask("shards", node=node)
            if shards.get("shards") and claim(shards["shards"][0]):
                return shards["shards"][0]
            time.sleep(0.1)
        raise AssertionError(f"not within {seconds} s: {what}; {shards}")

    def wait_for_voters(self, count, **options):
        return self.wait(lambda shard: sum(each["role"] == "voter" for each in shard["replicas"]) == count
                         and not shard["is_moving"], f"{count} replicas", **options)

    def leader(self):
        number = self.wait(lambda shard: shard["leader"] != 0, "a leader", node=self.alive()[0])["leader"]
        return self.nodes[number - 1]

    def alive(self):
        return [node for node in self.nodes if node.process.poll() is None]

    def stop(self):
        for node in self.alive():
            node.kill()


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def three(cluster):
    for _ in range(3):
        cluster.add()
    cluster.wait_for_voters(3)
    return cluster


class Load:
    """Clients that increase counters through given nodes; what they were told counts."""

    def __init__(self, nodes):
        self.acknowledged = [0] * len(nodes)
        self.errors = []
        self.longest = 0.0
        self.is_over = False
        # They end with a test that fails before it has ended them.
        self.threads = [threading.Thread(target=self.run, args=(i, node), daemon=True) for i, node in enumerate(nodes)]
        for thread in self.threads:
            thread.start()

    def run(self, number, node):
        client = node.client(socket_timeout=30)
        while not self.is_over:
            started = time.monotonic()
            try:
                client.incr(f"counter:{number}")
                self.acknowledged[number] += 1
            except redis.RedisError as error:
                self.errors.append(repr(error))
                time.sleep(0.01)
            self.longest = max(self.longest, time.monotonic() - started)

    def end(self):
        self.is_over = True
        for thread in self.threads:
            thread.join()
        return self


def counters(node, count):
    client = node.client(socket_timeout=30)
    return [int(client.get(f"counter:{i}") or 0) for i in range(count)]


def exit_code(node, verb):
    return subprocess.run([BINARY, verb, "--data", str(node.data)], capture_output=True, timeout=60, check=False).returncode


def test_any_node_takes_any_command(three):
    first, second, third = three.nodes
    assert first.client().set("a", "1") and second.client().incr("a") == 2
    assert third.client().get("a") == b"2"
    # A pipeline keeps its order, and what it reads is what it wrote, wherever the leader is.
    for node in three.nodes:
        with node.client().pipeline(transaction=False) as pipeline:
            for i in range(200):
                pipeline.set("order", i)
                pipeline.get("order")
            answers = pipeline.execute()
        assert [int(value) for value in answers[1::2]] == list(range(200))
    with second.client().pipeline() as transaction:
        transaction.watch("a")
        transaction.multi()
        transaction.incr("a")
        transaction.hset("h", "f", "v")
        assert transaction.execute() == [3, 1]
    with pytest.raises(redis.WatchError), third.client().pipeline() as transaction:
        transaction.watch("a")
        first.client().set("a", "other")
        transaction.multi()
        transaction.incr("a")
        transaction.execute()


def test_who_has_no_replica_does_not_say_that_there_is_nothing(cluster):
    """READONLY on a node that is no member of the shard is served by one that is."""
    for _ in range(4):
        cluster.add()
    cluster.wait_for_voters(3)
    cluster.leader().client().set("k", "v")
    for node in cluster.nodes:
        reader = node.client()
        reader.readonly()
        deadline = time.monotonic() + 60
        while reader.get("k") != b"v":
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("mebibytes", [6, 60])
def test_large_values_reach_every_node(cluster, mebibytes):
    """Whatever a node alone takes, a cluster takes, through any node."""
    for _ in range(3):
        cluster.add(memory="512mb")
    cluster.wait_for_voters(3)
    value = bytes(range(256)) * (mebibytes << 12)
    leader = cluster.leader()
    elsewhere = [node for node in cluster.nodes if node is not leader]
    elsewhere[0].client(socket_timeout=60).set("large", value)
    for node in cluster.nodes:
        assert node.client(socket_timeout=60).get("large") == value
    for node in elsewhere:  # What the followers have of it.
        reader = node.client(socket_timeout=60)
        reader.readonly()
        deadline = time.monotonic() + 120
        while reader.get("large") != value:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_long_pipelines_go_through_any_node(three):
    """Thousands of requests at once are answered in order, also where writes and reads take turns."""
    for node in three.nodes:
        pipeline = node.client(socket_timeout=20).pipeline(transaction=False)
        pipeline.delete("counter")
        for _ in range(3000):
            pipeline.incr("counter")
        for number in range(3000):
            pipeline.get("counter")
            pipeline.incr("counter")
        expected = [*range(1, 3001)]
        for number in range(3000, 6000):
            expected += [str(number).encode(), number + 1]
        assert pipeline.execute()[1:] == expected


def test_a_leader_dies_and_nothing_is_lost(three):
    leader = three.leader()
    others = [node for node in three.nodes if node is not leader]
    load = Load(others)
    time.sleep(1)
    leader.kill()
    time.sleep(2)
    load.end()
    assert not load.errors and all(load.acknowledged)
    assert counters(others[0], 2) == load.acknowledged, "each INCR counts once"
    assert load.longest < 10
    # What happened can be read whether or not all is well; `nodes` says by its exit code that it is not, once the dead one is known for dead.
    deadline = time.monotonic() + 60
    while (code := exit_code(others[0], "nodes")) == 0 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert code == 1 and exit_code(others[0], "audit") == 0
    leader.start()
    three.wait(lambda shard: all(each["state"] == "ok" for each in shard["replicas"]), "the node is back",
               node=others[0])
    assert counters(leader, 2) == load.acknowledged


def test_power_is_lost_everywhere(three):
    load = Load(three.nodes)
    time.sleep(1)
    for node in three.nodes:
        node.kill()
    load.end()
    for node in three.nodes:
        node.launch()
    for node in three.nodes:
        node.start() if node.process.poll() is not None else None
    three.leader()
    for acknowledged, counted in zip(load.acknowledged, counters(three.nodes[0], 3)):
        # The last one of each client may have taken effect without an answer.
        assert acknowledged <= counted <= acknowledged + 1


def test_nodes_restart_one_by_one_and_clients_see_no_error(three):
    steady = three.nodes[2]
    load = Load([steady])
    for node in three.nodes[:2]:
        time.sleep(0.5)
        assert node.stop() == 0
        node.start()
        three.wait(lambda shard: all(each["state"] == "ok" for each in shard["replicas"]), "back in place",
                   node=steady)
    load.end()
    assert not load.errors
    assert counters(steady, 1) == load.acknowledged


def test_a_node_that_comes_late_gets_everything(cluster):
    first = cluster.add()
    client = first.client()
    value = "x" * 1000
    for start in range(0, 20000, 1000):
        with client.pipeline(transaction=False) as pipeline:
            for i in range(start, start + 1000):
                pipeline.set(f"key:{i}", value)
            pipeline.execute()
    assert first.stop() == 0  # The log is released: newcomers need snapshots.
    first.start()
    cluster.add()
    cluster.add()
    cluster.wait_for_voters(3)
    first.kill()
    second = cluster.nodes[1]
    cluster.leader()
    assert second.client(socket_timeout=30).dbsize() == 20000
    assert second.client().get("key:19999") == value.encode()


def test_a_drained_node_is_empty_and_can_be_removed(three):
    three.add()
    time.sleep(1)
    three.ask("drain", "2", node=three.nodes[2])
    three.wait(lambda shard: sorted(each["node"] for each in shard["replicas"] if each["role"] == "voter")
               == [1, 3, 4] and not shard["is_moving"], "node 4 in place of node 2", node=three.nodes[2])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        states = {node["id"]: node["state"] for node in three.ask("nodes", node=three.nodes[2])["nodes"]}
        if states[2] == "drained":
            break
        time.sleep(0.1)
    assert states[2] == "drained"
    three.ask("remove", "2", node=three.nodes[2])
    assert three.nodes[3].client().set("after", "removal")


def test_a_node_that_the_majority_needs_is_not_removed_by_force(three):
    one, two, dead = three.nodes
    dead.kill()
    deadline = time.monotonic() + 30
    while three.ask("nodes", node=one)["nodes"][2]["health"] != "dead":
        assert time.monotonic() < deadline, three.ask("nodes", node=one)
        time.sleep(0.1)
    refusal = three.ask("remove", "2", "--force", node=one)
    assert "no majority" in refusal["error"] and "node 2" in refusal["error"], refusal
    assert "error" not in three.ask("remove", "3", "--force", node=one)
    deadline = time.monotonic() + 60
    while len(three.ask("nodes", node=one)["nodes"]) != 2:
        assert time.monotonic() < deadline, three.ask("nodes", node=one)
        time.sleep(0.1)
    told = three.ask("shards", node=one)  # Nobody can take the place of node 3, so it stays a voter.
    assert not told["well"] and "1 of 3 replicas are on nodes that are down" in told["verdict"], told
    assert two.client().set("after", "removal")


def test_a_token_lets_one_node_in_and_no_other(cluster):
    cluster.add()
    token = cluster.ask("token")["token"]
    cluster.add(token=token)
    used = subprocess.run([BINARY, "start", "--data", str(cluster.directory / "stranger"), "--redis", "127.0.0.1:0",
                           "--admin", "127.0.0.1:0", "--peer", "127.0.0.1:1", "--join",
                           f"127.0.0.1:{cluster.nodes[0].peer_port}", "--token", token],
                          capture_output=True, text=True, timeout=60, check=False)
    assert used.returncode == 1 and "token" in used.stderr
    nonsense = subprocess.run([BINARY, "start", "--data", str(cluster.directory / "stranger"), "--join",
                               "127.0.0.1:1", "--token", "tutti1-nonsense"],
                              capture_output=True, text=True, timeout=60, check=False)
    assert nonsense.returncode == 2 and "token" in nonsense.stderr


def stop_before_its_conf(cluster, token, has_failed):
    """A node that has the cluster's answer, but will never have a node.conf: it fails, or waits for somebody to read."""
    node = Node(cluster.directory / "late", ["--memory", "128mb", "--join", f"127.0.0.1:{cluster.nodes[0].peer_port}",
                                             "--token", token])
    node.data.mkdir()
    blocked = node.data / "node.conf.new"
    if has_failed:
        blocked.mkdir()
        assert node.launch().ended() == 1
        assert "node.conf.new" in node.log()
        blocked.rmdir()
    else:
        os.mkfifo(blocked)
        node.launch()
        deadline = time.monotonic() + JOIN_SECONDS_MAX
        while not (node.data / "roster").exists():
            assert time.monotonic() < deadline and node.process.poll() is None, node.log()
            time.sleep(0.01)
        node.kill()
        blocked.unlink()
    assert not (node.data / "node.conf").exists()
    assert "node.joined node=2" in cluster.nodes[0].log()
    return node


@pytest.mark.parametrize("has_failed", [False, True])
def test_a_join_that_was_interrupted_is_repeated_with_the_same_token(cluster, has_failed):
    cluster.add()
    node = stop_before_its_conf(cluster, cluster.ask("token")["token"], has_failed)
    joining = node.data / "tls" / "joining.pem"
    arguments, node.arguments = node.arguments, []
    assert node.launch().ended() == 1
    assert "began to join a cluster" in node.log() and not (node.data / "node.conf").exists()
    node.arguments = arguments
    assert joining.stat().st_mode & 0o777 == 0o600
    key = joining.read_text(encoding="ascii").partition("-----BEGIN PRIVATE KEY-----")[2]
    cluster.nodes.append(node)
    node.start()
    assert not joining.exists()
    assert key and (node.data / "tls" / "node.pem").read_text(encoding="ascii").endswith(key)
    assert [(each["id"], each["state"]) for each in cluster.ask("nodes", node=node)["nodes"]] == [(1, "active"), (2, "active")]
    assert node.client(socket_timeout=30).set("here", "now")
    assert cluster.nodes[0].client(socket_timeout=30).get("here") == b"now"


def test_who_joins_stops_when_told_to(cluster):
    cluster.add()
    token = cluster.ask("token")["token"]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        node = Node(cluster.directory / "late", ["--join", f"127.0.0.1:{silent.getsockname()[1]}", "--token", token]).launch()
        silent.settimeout(JOIN_SECONDS_MAX)
        with silent.accept()[0]:
            assert node.stop() == 0
    assert "node.join_stopped" in node.log() and "node.stopped" in node.log()
    node.arguments[1] = f"127.0.0.1:{cluster.nodes[0].peer_port}"
    cluster.nodes.append(node)
    node.start()


def test_clients_that_know_clusters_go_to_the_leader(three):
    leader = three.leader()
    other = next(node for node in three.nodes if node is not leader)
    client = redis.RedisCluster(host="127.0.0.1", port=other.redis_port)
    for i in range(50):
        client.set(f"k{i}", i)
    assert [int(client.get(f"k{i}")) for i in range(50)] == list(range(50))
    nodes = other.client().execute_command("CLUSTER NODES")
    assert f"127.0.0.1:{leader.redis_port}" in nodes and len(nodes) == 3
    assert all(node["connected"] for node in nodes.values())
    plain = other.client().execute_command
    assert plain("SET", "plain", "1") and plain("GET", "plain") == b"1", "who asked for no cluster is not sent away"
    shown = subprocess.run(["redis-cli", "-c", "-p", str(other.redis_port), "SET", "by-cli", "1"], capture_output=True,
                           text=True, timeout=60, check=False)
    assert shown.stdout.strip() == "OK"
    stale = other.client()
    stale.execute_command("READONLY")
    deadline = time.monotonic() + 60
    while stale.get("k49") != b"49" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert stale.get("k49") == b"49"


def harm_log(node):
    """Flip bytes in the middle of what the log of a node that was killed holds."""
    segment = max((node.data / "wal").glob("*.wal"))
    content = bytearray(segment.read_bytes())
    used = len(content.rstrip(b"\0"))
    middle = used // 2
    for i in range(middle, middle + 700):  # A sector is hit whole, whatever it holds.
        content[i] ^= 0x5a
    segment.write_bytes(content)
    return segment, bytes(content)


def fill(node, count):
    with node.client(socket_timeout=30).pipeline(transaction=False) as pipeline:
        for i in range(count):
            pipeline.set(f"filler:{i}", "x" * 200)
            if i % 50 == 49:
                pipeline.execute()
        pipeline.execute()


def check(node):
    return subprocess.run([BINARY, "check", str(node.data)], capture_output=True, text=True, timeout=60, check=False)


def test_a_replica_with_a_damaged_log_repairs_itself(three):
    leader = three.leader()
    fill(leader, 5000)
    victim = next(node for node in three.nodes if node is not leader)
    others = [node for node in three.nodes if node is not victim]
    load = Load(others)
    time.sleep(1)
    victim.kill()
    segment, _ = harm_log(victim)
    found = check(victim)
    assert found.returncode != 0 and segment.name in found.stdout and "repairs itself" in found.stderr, \
        found.stdout + found.stderr
    victim.start()
    deadline = time.monotonic() + 30
    while "node.replica_whole" not in victim.log() and time.monotonic() < deadline:
        time.sleep(0.05)
    log = victim.log()
    assert "node.log_damaged" in log and segment.name in log
    assert "node.replica_whole" in log, log[-2000:]
    three.wait(lambda shard: all(each["state"] == "ok" for each in shard["replicas"]), "all are well", node=leader)
    time.sleep(1)
    load.end()
    assert not load.errors, load.errors[:3]
    # It counts again: with it alone beside another one, the cluster goes on, and has every increment.
    leader.kill()
    for i, acknowledged in enumerate(load.acknowledged):
        assert int(victim.client(socket_timeout=30).get(f"counter:{i}")) == acknowledged
    assert victim.client(socket_timeout=30).dbsize() == 5000 + len(load.acknowledged)
    status, metrics = victim.get("/metrics")
    assert status == 200 and "tutti_shard_impaired 0" in metrics
    leader.start()
    for node in three.nodes:
        assert node.stop() == 0
    for node in three.nodes:
        found = check(node)
        assert found.returncode == 0, found.stdout + found.stderr


def test_a_replica_without_any_log_repairs_itself(three):
    fill(three.leader(), 1000)
    victim = next(node for node in three.nodes if node is not three.leader())
    assert victim.stop() == 0
    for segment in (victim.data / "wal").iterdir():
        segment.unlink()
    found = check(victim)
    assert found.returncode == 4 and "repairs itself" in found.stderr, found.stdout + found.stderr
    victim.start()
    told = next(line for line in victim.log().splitlines() if "node.log_damaged" in line)
    assert 'reason="the log is gone"' in told and "segment" not in told, told  # There is none to look at.
    three.wait(lambda shard: all(each["state"] == "ok" for each in shard["replicas"]), "all are well", node=three.leader())
    assert victim.stop() == 0 and check(victim).returncode == 0


def test_who_has_nothing_to_keep_has_lost_nothing(cluster):
    """The log of a node that was given no replica, or has given all of them away, is empty, and whole."""
    first = cluster.add(["--replicas", "1"])
    spare = cluster.add()
    for end in (spare.stop, spare.kill):
        end()
        found = check(spare)
        assert found.returncode == 0, found.stdout + found.stderr
        spare.start()
        assert "node.log_damaged" not in spare.log()
        assert "tutti_shard_impaired 0" in spare.get("/metrics")[1]
    fill(first, 1000)
    cluster.ask("drain", "1", "--wait")
    for end in (first.stop, first.kill):
        end()
        found = check(first)
        assert found.returncode == 0, found.stdout + found.stderr
        first.start()
        assert "node.log_damaged" not in first.log()
        assert first.client(socket_timeout=30).dbsize() == 1000


def test_a_node_alone_with_a_damaged_log_refuses_and_changes_nothing(cluster):
    node = cluster.add()
    fill(node, 2000)
    node.kill()
    segment, content = harm_log(node)
    node.launch()
    assert node.ended() not in (0, None)
    assert segment.name in node.log() and "no majority" in node.log(), node.log()[-2000:]
    assert segment.read_bytes() == content
    found = check(node)
    assert found.returncode != 0 and segment.name in found.stdout, found.stdout + found.stderr
