# SPDX-License-Identifier: Apache-2.0
"""Cluster-aware clients against one node, which to them is a cluster of one: redis-py's RedisCluster, redis-cli -c."""
import shutil
import subprocess

import pytest
import redis
from redis.cluster import ClusterNode, RedisCluster


@pytest.fixture
def cluster(node):
    client = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", node.redis_port)], decode_responses=True)
    yield client
    client.close()


def test_keys_of_many_slots(cluster):
    for number in range(500):
        assert cluster.set(f"key:{number}", number)
    for number in range(500):
        assert cluster.get(f"key:{number}") == str(number)
    assert cluster.dbsize() == 500
    assert sorted(cluster.scan_iter("key:1?")) == [f"key:{number}" for number in range(10, 20)]
    assert cluster.mset_nonatomic({"a": 1, "b": 2, "{a}c": 3})
    assert cluster.mget_nonatomic("a", "b", "{a}c", "none") == ["1", "2", "3", None]
    assert cluster.delete("a", "b", "{a}c") == 3
    assert cluster.flushall() and cluster.dbsize() == 0


def test_a_pipeline(cluster):
    with cluster.pipeline() as pipeline:
        for number in range(100):
            pipeline.incrby(f"count:{number % 10}", number)
        assert len(pipeline.execute()) == 100
    assert sum(int(cluster.get(f"count:{number}")) for number in range(10)) == sum(range(100))


def test_types_and_expiry(cluster):
    assert cluster.hset("hash", mapping={"a": 1, "b": 2}) == 2
    assert cluster.hgetall("hash") == {"a": "1", "b": "2"}
    assert cluster.set("soon", "gone", px=1) and cluster.pttl("hash") == -1
    assert cluster.rename("{x}a" if cluster.set("{x}a", 1) else "", "{x}b") and cluster.get("{x}b") == "1"


def test_the_map(node, cluster):
    client = node.client(decode_responses=True)
    (start, end), place = next(iter(cluster.cluster_slots().items()))
    assert (start, end) == (0, 16383) and place["primary"] == ("127.0.0.1", node.redis_port) and place["replicas"] == []
    assert [each.port for each in cluster.get_primaries()] == [node.redis_port] and cluster.get_replicas() == []
    nodes = cluster.cluster_nodes()
    assert list(nodes) == [f"127.0.0.1:{node.redis_port}"]
    (only,) = nodes.values()
    assert only["flags"] == "myself,master" and only["slots"] == [["0", "16383"]] and only["connected"]
    assert only["node_id"] == client.execute_command("CLUSTER", "MYID")
    shards = client.execute_command("CLUSTER", "SHARDS")
    assert shards[0][1] == [0, 16383] and shards[0][3][0][shards[0][3][0].index("health") + 1] == "online"
    info = client.execute_command("CLUSTER INFO")
    assert "cluster_state:ok" in str(info) or info["cluster_state"] == "ok"
    assert client.info("cluster")["cluster_enabled"] == 1
    assert client.info("replication")["role"] == "master"


def test_keys_in_a_slot(node, cluster):
    cluster.mset({"{tag}a": 1, "{tag}b": 2, "{tag}c": 3})
    slot = cluster.cluster_keyslot("{tag}")
    assert cluster.cluster_countkeysinslot(slot) == 3
    assert sorted(cluster.cluster_get_keys_in_slot(slot, 10)) == ["{tag}a", "{tag}b", "{tag}c"]
    assert len(cluster.cluster_get_keys_in_slot(slot, 2)) == 2
    client = node.client(decode_responses=True)
    client.set("{tag}d", 4, px=1)
    while client.exists("{tag}d"):
        pass
    assert client.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) == 3


def test_reading_from_replicas(node):
    client = RedisCluster(host="127.0.0.1", port=node.redis_port, read_from_replicas=True, decode_responses=True)
    assert client.set("k", "v") and client.get("k") == "v"
    client.close()


def test_a_password(make_node):
    node = make_node("--requirepass", "secret").start()
    client = RedisCluster(host="127.0.0.1", port=node.redis_port, password="secret", decode_responses=True)
    assert client.set("k", "v") and client.get("k") == "v"
    client.close()
    stranger = node.client()
    for command in ("CLUSTER SLOTS", "READONLY", "ASKING", "READWRITE"):
        with pytest.raises(redis.AuthenticationError):
            stranger.execute_command(*command.split())


def test_plain_clients_see_no_cluster(node):
    """Several slots in one command, MULTI over slots: all as without any cluster."""
    client = node.client(decode_responses=True)
    assert client.mset({"a": 1, "b": 2, "c": 3}) and client.delete("a", "b", "c") == 3
    with client.pipeline(transaction=True) as pipeline:
        assert pipeline.set("a", 1).set("b", 2).execute() == [True, True]
    assert client.info("server")["redis_mode"] == "standalone"
    with pytest.raises(redis.ResponseError, match="keeps itself in order"):
        client.execute_command("CLUSTER", "MEET", "127.0.0.1", "1")


def test_commands_of_the_system_are_not_for_clients(node):
    client = node.client()
    for name in ("BOOTSTRAP", "TOKENADD", "JOIN", "NODESET", "NODESTATE", "SETTING", "AUDIT", "TOKENSWEEP", "NODES",
                 "SETTINGS", "TOKENS", "AUDITLOG"):
        for command in (f"SYSTEM.{name}", name):
            with pytest.raises(redis.ResponseError, match="unknown command"):
                client.execute_command(command)
    for name in ("SLOTCOUNT", "SLOTKEYS"):
        with pytest.raises(redis.ResponseError, match="unknown command"):
            client.execute_command(name, "1")


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="needs redis-tools")
def test_redis_cli(node):
    def cli(*words):
        return subprocess.run(["redis-cli", "-p", str(node.redis_port), *words], capture_output=True, text=True, timeout=30,
                              check=True).stdout

    assert cli("-c", "SET", "k", "v") == "OK\n" and cli("-c", "GET", "k") == "v\n"
    checked = cli("--cluster", "check", f"127.0.0.1:{node.redis_port}")
    assert "[OK] All 16384 slots covered." in checked and "[ERR]" not in checked
    assert "1 keys in 1 masters" in cli("--cluster", "info", f"127.0.0.1:{node.redis_port}")
