# SPDX-License-Identifier: Apache-2.0
"""Several data shards: one node that has them all, and three that share them. What a client sees is one keyspace, in which
each key has the order of its commands."""
import json
import shutil
import subprocess
import threading
import time

import pytest
import redis
from harness import BINARY
from test_cluster import Cluster, Load, counters

SLOT_COUNT = 16384
KEYS = [f"key:{i}" for i in range(1000)]


def crosses(call):
    with pytest.raises(redis.ResponseError, match="hash to the same slot"):
        call()


@pytest.fixture
def alone(make_node):
    return make_node("--shards", "16").start()


@pytest.fixture
def client(alone):
    return alone.client(decode_responses=True)


def fill(client):
    with client.pipeline(transaction=False) as pipeline:
        for number, key in enumerate(KEYS):
            pipeline.set(key, number)
        assert all(pipeline.execute())


def test_commands_about_all_keys(client):
    assert client.randomkey() is None and client.dbsize() == 0 and client.keys("*") == []
    fill(client)
    assert client.dbsize() == len(KEYS)
    assert sorted(client.keys("key:*")) == sorted(KEYS)
    for count in (1, 10, 5000):
        assert sorted(client.scan_iter(match="key:*", count=count)) == sorted(KEYS)
    assert {client.randomkey() for _ in range(100)} <= set(KEYS)
    assert len({client.randomkey() for _ in range(100)}) > 20
    assert client.info("keyspace")["db0"]["keys"] == len(KEYS)
    slots = [client.execute_command("CLUSTER COUNTKEYSINSLOT", client.execute_command("CLUSTER KEYSLOT", key))
             for key in KEYS[:50]]
    assert all(count >= 1 for count in slots)
    client.flushall()
    assert client.dbsize() == 0 and list(client.scan_iter()) == [] and client.get("key:1") is None


def test_commands_that_are_the_sum_of_their_parts(client):
    fill(client)
    assert client.mget(KEYS + ["none"] + KEYS[:3]) == [str(i) for i in range(len(KEYS))] + [None, "0", "1", "2"]
    assert client.exists(*KEYS[:10], KEYS[0], "none") == 11
    assert client.touch(*KEYS[:10]) == 10
    assert client.unlink(*KEYS[:10], "none") == 10
    assert client.delete(*KEYS[:500]) == 490
    assert client.dbsize() == 500
    client.hset("h", "f", "v")
    assert client.mget("h", *KEYS[-3:]) == [None, "997", "998", "999"]


def test_what_cannot_be_cut_is_refused_across_shards(client):
    fill(client)
    before = client.mget(KEYS)
    for command in (["DBSIZE"], ["KEYS", "*"], ["RANDOMKEY"]):
        with client.pipeline() as transaction:
            transaction.set(KEYS[0], "y")
            transaction.execute_command(*command)
            crosses(transaction.execute)
    assert client.mget(KEYS[:10]) == before[:10]
    # Keys with a tag are together.
    assert client.mset({"{t}a": 1, "{t}b": 2}) and client.rename("{t}a", "{t}c")
    with client.pipeline() as transaction:
        transaction.watch("{t}b")
        transaction.multi()
        transaction.incr("{t}b")
        transaction.echo("own")
        transaction.incr("{t}c")
        assert transaction.execute() == [3, "own", 2]
    with pytest.raises(redis.WatchError), client.pipeline() as transaction:
        transaction.watch("{t}b")
        client.set("{t}b", 0)
        transaction.multi()
        transaction.incr("{t}b")
        transaction.execute()


@pytest.mark.parametrize("order", ["connection", "shard"])
def test_the_order_of_a_pipeline_across_shards(make_node, order):
    """One client writes the data, then says so, in other shards; who sees the word sees the data. In the order of shards that
    takes transactions, for which all before them is done, and a reader that waits; each key has its order anyhow."""
    node = make_node("--shards", "16", "--reactors", "2", "--pipeline-order", order).start()
    client = node.client(decode_responses=True)
    assert client.config_get("pipeline-order") == {"pipeline-order": order}
    is_over = False
    wrong = []

    def read(reader, keys):
        if order == "shard":
            return [reader.get(key) for key in keys]
        with reader.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.get(key)
            return pipeline.execute()

    def watch():
        reader = node.client(decode_responses=True)
        while not is_over:
            values = [int(value or 0) for value in read(reader, ("w:3", "w:2", "w:1", "w:0"))]
            if values != sorted(values):
                wrong.append(values)

    watchers = [threading.Thread(target=watch) for _ in range(2)]
    for thread in watchers:
        thread.start()
    for number in range(1, 300):
        with client.pipeline(transaction=False) as pipeline:
            for key in ("w:0", "w:1", "w:2", "w:3"):
                if order == "shard":
                    pipeline.execute_command("MULTI")
                pipeline.set(key, number)
                if order == "shard":
                    pipeline.execute_command("EXEC")
                pipeline.get(key)
            replies = pipeline.execute()
        assert replies[len(replies) // 4 - 1::len(replies) // 4] == [str(number)] * 4
    is_over = True
    for thread in watchers:
        thread.join()
    assert not wrong, wrong[:3]


def test_pipelines_of_many_clients_keep_the_order_of_each_key(make_node):
    node = make_node("--shards", "16", "--reactors", "2").start()
    wrong = []

    def run(number):
        client = node.client(decode_responses=True)
        keys = [f"o:{number}:{i}" for i in range(20)]
        for turn in range(30):
            with client.pipeline(transaction=False) as pipeline:
                for _ in range(3):
                    for key in keys:
                        pipeline.incr(key)
                for key in keys:
                    pipeline.get(key)
                pipeline.mget(keys)
                replies = pipeline.execute()
            expected = [3 * turn + i for i in (1, 2, 3) for _ in keys] + [str(3 * turn + 3)] * 20
            if replies != expected + [[str(3 * turn + 3)] * 20]:
                wrong.append(replies)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:1]


def test_values_that_expire_do_so_in_every_shard(client):
    for key in KEYS[:100]:
        client.set(key, 1, px=200)
    client.set("stays", 1)
    deadline = time.monotonic() + 10
    while client.dbsize() > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client.dbsize() == 1 and client.keys("*") == ["stays"]


def test_a_node_comes_back_as_it_was(make_node):
    node = make_node("--shards", "16").start()
    fill(node.client())
    node.kill()
    node.start()
    assert node.client().mget(KEYS) == [str(i).encode() for i in range(len(KEYS))]
    node.client().delete(*KEYS[:100])
    assert node.stop() == 0
    checked = subprocess.run([BINARY, "check", str(node.data)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0 and "shard 16" in checked.stdout, checked.stdout + checked.stderr
    node.arguments = ["--shards", "4"]  # It was made with 16.
    node.start()
    assert node.client().dbsize() == 900 and "shards_as_they_are" in node.log()
    assert "shards = 16" in (node.data / "node.conf").read_text() and "format = 2" in (node.data / "node.conf").read_text()


def test_one_shard_is_what_it_was(node):
    assert node.client().mset({key: 1 for key in KEYS})
    assert node.stop() == 0
    text = (node.data / "node.conf").read_text()
    assert "format = 1" in text and "shards" not in text
    node.arguments = ["--shards", "16"]
    node.start()
    assert node.client().dbsize() == len(KEYS) and node.client().mset({key: 2 for key in KEYS})


def test_every_shard_is_told_of(alone, client):
    fill(client)

    def keys(text):
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("tutti_replica_keys{"))

    wait_for(lambda: keys(alone.get("/metrics")[1]) == len(KEYS), "all keys in the figures", seconds=30)
    text = alone.get("/metrics")[1]
    assert text.count("\ntutti_replica_leads{") == 16
    assert f"\ntutti_keyspace_keys {len(KEYS)}" in text


# ---- Three nodes ----------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path):
    cluster = Cluster(tmp_path)
    cluster.add(["--shards", "4"])
    cluster.add()
    cluster.add()
    settle(cluster)
    yield cluster
    cluster.stop()


def shards_of(cluster, node=None):
    return cluster.ask("shards", node=node or cluster.alive()[0]).get("shards", [])


def wait_for(claim, what, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if claim():
            return
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s: {what}")


def settle(cluster, count=4, nodes=(1, 2, 3), is_spread=True, seconds=60):
    """`is_spread`: each of them leads something."""
    def is_settled():
        shards = shards_of(cluster)
        leading = [shard["leader"] for shard in shards]
        return (len(shards) == count
                and all(sorted(each["node"] for each in shard["replicas"] if each["role"] == "voter") == list(nodes)
                        and not shard["is_moving"] for shard in shards)
                and 0 not in leading and (not is_spread or set(leading) == set(nodes)))
    wait_for(is_settled, "every shard on every node, led by all of them", seconds)


def slots(node):
    """[first, last, port of the leader, ports of the others] for each range."""
    answer = subprocess.run(["redis-cli", "--json", "-3", "-p", str(node.redis_port), "CLUSTER", "SLOTS"],
                            capture_output=True, text=True, timeout=60, check=True)
    return [[first, last, *(place[1] for place in places)] for first, last, *places in json.loads(answer.stdout)]


def test_any_node_takes_any_command(three):
    def are_spread():
        leaders = [shard["leader"] for shard in shards_of(three)]
        return sorted(leaders.count(node) for node in (1, 2, 3)) == [1, 1, 2]
    wait_for(are_spread, "leaders are spread")
    fill(three.nodes[1].client())
    for node in three.nodes:
        client = node.client(decode_responses=True)
        assert client.dbsize() == len(KEYS)
        assert client.mget(KEYS) == [str(i) for i in range(len(KEYS))]
        assert sorted(client.scan_iter(count=100)) == sorted(KEYS)
        with client.pipeline(transaction=False) as pipeline:
            for number in range(100):
                pipeline.set(f"order:{number % 7}", number)
                pipeline.get(f"order:{number % 7}")
            assert pipeline.execute()[1::2] == [str(number) for number in range(100)]
        assert client.delete(*(f"order:{i}" for i in range(7))) == 7
        assert client.mset({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}) and client.delete(*"abcde") == 5


def test_clients_that_know_clusters_go_to_each_leader(three):
    ports = {number + 1: node.redis_port for number, node in enumerate(three.nodes)}

    def are_told():
        """A leader may have changed between the two questions."""
        shards = shards_of(three)
        said = {}
        for first, last, leader, *replicas in slots(three.nodes[0]):
            said.update({slot: leader for slot in range(first, last + 1)})
            assert len(replicas) == 2
        return len(shards) == 4 and len(said) == SLOT_COUNT and all(said[number * SLOT_COUNT // 4] == ports.get(shard["leader"])
                                        for number, shard in enumerate(shards))
    wait_for(are_told, "leaders as `tutti shards` says")
    client = redis.RedisCluster(host="127.0.0.1", port=three.nodes[2].redis_port)
    for key in KEYS[:200]:
        client.set(key, key)
    assert [client.get(key).decode() for key in KEYS[:200]] == KEYS[:200]
    moved = 0
    for node in three.nodes:
        plain = node.client()
        plain.execute_command("CLUSTER SLOTS")
        for key in KEYS[:30]:
            try:
                plain.get(key)
            except redis.ResponseError as error:
                assert str(error).startswith("MOVED")
                moved += 1
    assert 0 < moved < 90
    info = three.nodes[0].client().execute_command("CLUSTER INFO")
    assert info["cluster_slots_ok"] == str(SLOT_COUNT)


@pytest.mark.skipif(shutil.which("redis-benchmark") is None, reason="needs redis-tools")
def test_redis_benchmark_finds_all_leaders(three):
    wait_for(lambda: len({leader for _, _, leader, *_ in slots(three.nodes[1])}) == 3, "all of them lead, as the one knows that is asked")
    result = subprocess.run(["redis-benchmark", "--cluster", "-p", str(three.nodes[1].redis_port), "-t", "set,get", "-n", "3000", "-r", "1000"],
                            capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0 and "Cluster has 3 master nodes" in result.stdout and "rror" not in result.stdout + result.stderr, result
    assert three.nodes[0].client().dbsize() > 100


def test_a_node_dies_and_every_increment_counts_once(three):
    victim = three.nodes[0]
    others = three.nodes[1:]
    loads = [Load(others * 4)]
    time.sleep(1)
    victim.kill()
    time.sleep(3)
    for load in loads:
        load.end()
        assert not load.errors and all(load.acknowledged)
        assert counters(others[0], len(load.acknowledged)) == load.acknowledged
        assert load.longest < 10
    victim.start()
    settle(three)
    assert counters(victim, len(loads[0].acknowledged)) == loads[0].acknowledged


def test_nodes_restart_one_by_one_and_clients_see_no_error(three):
    steady = three.nodes[2]
    load = Load([steady] * 4)
    for node in three.nodes[:2]:
        time.sleep(0.5)
        assert node.stop() == 0
        node.start()
        settle(three)
    load.end()
    assert not load.errors
    assert counters(steady, 4) == load.acknowledged


def test_power_is_lost_everywhere(three):
    load = Load(three.nodes * 2)
    time.sleep(1)
    for node in three.nodes:
        node.kill()
    load.end()
    for node in three.nodes:
        node.launch()
    settle(three)
    for acknowledged, counted in zip(load.acknowledged, counters(three.nodes[0], 6)):
        assert acknowledged <= counted <= acknowledged + 1


def test_a_node_that_comes_late_gets_every_shard_and_a_drained_one_has_none(three):
    fill(three.nodes[0].client())
    three.add()
    three.ask("drain", "2", node=three.nodes[2])
    settle(three, nodes=(1, 3, 4))
    wait_for(lambda: {node["id"]: node["state"] for node in three.ask("nodes")["nodes"]}[2] == "drained", "2 is empty")
    three.nodes[1].kill()
    assert three.nodes[3].client(decode_responses=True).mget(KEYS) == [str(i) for i in range(len(KEYS))]


def test_a_node_without_a_replica_of_the_first_shard_drains(three):
    """It does not know who leads that, and is told, so that what it leads is known."""
    fill(three.nodes[0].client())
    three.add()
    three.add()

    found = []

    def has_stranger():
        shards = shards_of(three)
        members = {each["node"] for shard in shards if shard["id"] == 1 for each in shard["replicas"]}
        found[:] = sorted({shard["leader"] for shard in shards} - members - {0})
        return found and not any(shard["is_moving"] for shard in shards)

    wait_for(has_stranger, "it leads something", seconds=90)
    drained = found[0]
    three.ask("drain", str(drained), node=three.nodes[drained % 5])
    wait_for(lambda: {node["id"]: node["state"] for node in three.ask("nodes")["nodes"]}[drained] == "drained",
             "it is empty")


class Writes:
    """Values of 10 kB, many at a time, until it is left."""

    KEY_COUNT = 30000
    VALUE = b"v" * 10000

    def __init__(self, node):
        self.node = node
        self.is_over = False
        self.count = 0
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        client = self.node.client(socket_timeout=60)
        while not self.is_over:
            with client.pipeline(transaction=False) as pipeline:
                for _ in range(64):
                    pipeline.set(f"key:{self.count % self.KEY_COUNT}", self.VALUE)
                    self.count += 1
                pipeline.execute()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over = True
        self.thread.join()


def test_who_joins_becomes_a_voter_while_writes_come(tmp_path):
    """More is written than the leader keeps of its log for itself, and has in memory, while the snapshots are on their way."""
    made = Cluster(tmp_path)
    made.add(["--split-size", "0"])
    try:
        with Writes(made.nodes[0]) as writes:
            wait_for(lambda: writes.count >= writes.KEY_COUNT, "enough for a snapshot that takes its time")
            made.add(["--split-size", "0"])
            made.add(["--split-size", "0"])
            wait_for(lambda: [(each["role"], each["state"]) for each in shards_of(made)[0]["replicas"]] == [("voter", "ok")] * 3,
                     "three voters, while writes come", seconds=90)
            count = writes.count
            wait_for(lambda: writes.count > count, "writes go on")
    finally:
        made.stop()
