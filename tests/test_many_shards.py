# SPDX-License-Identifier: Apache-2.0
"""Thousands of shards: idle ones cost next to nothing, memory goes where it is needed, and a node that dies takes the
leaders of many shards with it without anybody noticing more than a pause."""
import collections
import concurrent.futures
import os
import re
import threading
import time

import redis

from harness import post
from test_cluster import Cluster
from test_shards import shards_of, wait_for
from test_split import check

MANY = 10000
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def processor_seconds(node):
    fields = (open(f"/proc/{node.process.pid}/stat", encoding="utf-8").read().rsplit(")", 1)[1]).split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def resident_mib(node):
    text = open(f"/proc/{node.process.pid}/status", encoding="utf-8").read()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text).group(1)) / 1024


def metric(node, name):
    status, text = node.get("/metrics")
    assert status == 200
    return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE).group(1))


def idle_share(node, seconds):
    """Of a processor."""
    before = processor_seconds(node)
    time.sleep(seconds)
    return (processor_seconds(node) - before) / seconds


def ask(node, verb, **arguments):
    status, answer = post(node, verb, arguments)
    assert status == 200, answer
    return answer


def shards_in_order(node):
    """What `tutti shards` shows; all slots are there, each in one shard."""
    shards = ask(node, "shards")["shards"]
    assert shards[0]["first"] == "" and shards[-1]["last"] == ""
    assert all(before["last"] == after["first"] != "" for before, after in zip(shards, shards[1:]))
    assert len({shard["id"] for shard in shards}) == len(shards)
    return shards


def views_agree(node, count, nodes):
    """Each view tells of all shards: `count`, which are well and have a replica on each of the nodes."""
    shards = shards_in_order(node)
    leaders = collections.Counter(shard["leader"] for shard in shards)
    listed = ask(node, "nodes")["nodes"]
    status = ask(node, "status")
    why = ask(node, "why")["shards"]
    if not status["well"] or why or 0 in leaders or sum(each["leaders"] for each in listed) != count:
        return False  # Leaders come and go.
    assert len(shards) == count == status["shards"]["count"] == status["shards"]["healthy"]
    assert [each["id"] for each in listed] == nodes
    assert all(each["shards"] == count for each in listed)
    assert all([replica["node"] for replica in shard["replicas"]] == nodes for shard in shards)
    assert status["without_figures"] == []
    one = shards[count // 2]
    assert [shard["id"] for shard in ask(node, "shards", shard=one["id"])["shards"]] == [one["id"]]
    return sorted(leaders) == nodes and all(each["leaders"] == leaders[each["id"]] for each in listed)


def split_while_views_are_asked_for(node, shards):
    """These shards become two each; meanwhile each view has all slots once."""
    is_over = threading.Event()

    def look():
        counts = []
        while not is_over.is_set():
            counts.append(len(shards_in_order(node)))
        return counts
    with concurrent.futures.ThreadPoolExecutor() as threads:
        looking = threads.submit(look)
        try:
            for shard in shards:
                assert ask(node, "split", shard=shard, wait=True)["is_done"]
        finally:
            is_over.set()
        counts = looking.result()
    assert counts == sorted(counts) and MANY <= counts[0] and counts[-1] <= MANY + len(shards)


def test_ten_thousand_idle_shards(make_node):
    node = make_node("--shards", str(MANY), "--memory", "512mb")
    began = time.monotonic()
    node.start()
    assert time.monotonic() - began < 10
    client = node.client(decode_responses=True)
    keys = [f"key:{i}" for i in range(2000)]
    for start in range(0, len(keys), 100):
        assert client.mset({key: key for key in keys[start:start + 100]})
    assert client.mget(keys) == keys
    assert client.dbsize() == len(keys)
    assert client.delete(*keys[:1000]) == 1000
    with client.pipeline() as transaction:
        transaction.set("a", 1)
        transaction.incr("b")
        assert transaction.execute() == [True, 1]
    assert metric(node, "tutti_node_replicas") == MANY
    assert "tutti_replica_keys" not in node.get("/metrics")[1]
    assert views_agree(node, MANY, [1])
    time.sleep(3)
    assert resident_mib(node) < 300
    # A twentieth, on a machine that has nothing else to do; on a busy one what the start left to do takes longer.
    wait_for(lambda: idle_share(node, 8) < 0.2, "it is idle", 30)
    assert node.stop() == 0
    check(node)
    began = time.monotonic()
    node.start()
    assert time.monotonic() - began < 10
    client = node.client(decode_responses=True)
    assert client.mget(keys[999:1002]) == [None, *keys[1000:1002]] and client.get("b") == "1"
    assert resident_mib(node) < 300
    # Shards of two slots are split.
    parents = [shard["id"] for shard in shards_in_order(node)[1:4000:400]
               if int(shard["last"].split()[1]) == int(shard["first"].split()[1]) + 2]
    assert len(parents) > 3
    split_while_views_are_asked_for(node, parents)
    wait_for(lambda: views_agree(node, MANY + len(parents), [1]), "children are told of as well", 30)


def test_memory_goes_where_it_is_needed(make_node):
    """With a sixteenth for each, most of the keys of one shard would not be in memory."""
    node = make_node("--shards", "16", "--memory", "64mb").start()
    client = node.client()
    value = b"v" * 200
    for start in range(0, 30000, 1000):
        with client.pipeline(transaction=False) as pipeline:
            for i in range(start, start + 1000):
                pipeline.set(f"{{tag}}:{i}", value)
            pipeline.execute()
    cached = 0
    for _ in range(20):  # Rounds of a second; on a busy machine it takes more of them.
        for start in range(0, 30000, 1000):
            client.mget([f"{{tag}}:{i}" for i in range(start, start + 1000)])
        time.sleep(1)
        before, cached = cached, metric(node, "tutti_memory_rows_bytes")
        if before == cached > 8 << 20:
            break
    assert 8 << 20 < cached < 20 << 20  # Of a quarter of 64 MiB; evenly divided it would be 1 MiB.
    misses = metric(node, "tutti_rows_misses_total")
    for start in range(0, 30000, 1000):
        client.mget([f"{{tag}}:{i}" for i in range(start, start + 1000)])
    assert metric(node, "tutti_rows_misses_total") - misses < 1000


def leaders(cluster, node):
    shards = shards_of(cluster, node)
    return collections.Counter(shard["leader"] for shard in shards), shards


def test_many_shards_on_three_nodes(tmp_path):
    cluster = Cluster(tmp_path)
    try:
        count = 300  # More than a node tells of in one go.
        cluster.add(("--shards", str(count)))
        cluster.add()
        cluster.add()

        def is_whole():
            _, shards = leaders(cluster, cluster.nodes[0])
            return shards and all(len(shard["replicas"]) == 3 and shard["health"] == "healthy" for shard in shards)
        wait_for(is_whole, "three replicas of each", 180)
        client = cluster.nodes[2].client(decode_responses=True)
        for i in range(400):
            assert client.set(f"key:{i}", i)
        for node in cluster.nodes:
            wait_for(lambda node=node: idle_share(node, 3) < 0.2, "groups fall quiet", 30)

        def are_spread():
            counts, _ = leaders(cluster, cluster.nodes[2])
            return min(counts[number] for number in (1, 2, 3)) > 40
        wait_for(are_spread, "each leads its part", 60)
        for node in cluster.nodes:
            wait_for(lambda node=node: views_agree(node, count, [1, 2, 3]), "all views are whole", 60)
        cluster.nodes[0].kill()
        began = time.monotonic()

        def is_led():
            counts, _ = leaders(cluster, cluster.nodes[2])
            return set(counts) == {2, 3}
        wait_for(is_led, "leaders on the nodes that are left", 10)
        assert time.monotonic() - began < 10
        for i in range(400):
            assert client.get(f"key:{i}") == str(i)
            assert client.incr(f"key:{i}") == i + 1
        wait_for(lambda: idle_share(cluster.nodes[1], 3) < 0.2, "groups fall quiet without the one that is gone", 30)
        cluster.nodes[0].start()

        def is_whole_again():
            _, shards = leaders(cluster, cluster.nodes[1])
            return shards and all(replica["state"] == "ok" and replica.get("lag_entries", 1) == 0
                       for shard in shards for replica in shard["replicas"])
        wait_for(is_whole_again, "the one that was gone catches up", 60)
        stale = cluster.nodes[0].client(decode_responses=True)
        assert [stale.get(f"key:{i}") for i in range(400)] == [str(i + 1) for i in range(400)]
        for node in cluster.alive():
            assert node.stop() == 0
        for node in cluster.nodes:
            check(node)
    except redis.RedisError:
        for node in cluster.nodes:
            print(node.log()[-3000:])
        raise
    finally:
        cluster.stop()
