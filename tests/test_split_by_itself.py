# SPDX-License-Identifier: Apache-2.0
"""Shards that have become too large, or too busy, become two by themselves, while they serve; and then it ends."""
import binascii
import os
import subprocess
import threading
import time

import pytest

from harness import BINARY
from test_cluster import Cluster, Load, counters
from test_shards import KEYS, SLOT_COUNT, fill, settle, shards_of, wait_for
from test_split import VALUES, Pipelines, check


@pytest.fixture
def make_three(tmp_path):
    made = []

    def make(*arguments):
        cluster = Cluster(tmp_path)
        made.append(cluster)
        for _ in range(3):
            cluster.add(arguments)
        cluster.wait_for_voters(3)
        return cluster

    yield make
    for each in made:
        each.stop()


def reasons(cluster):
    """Why shards were split by themselves, as the record has it."""
    shown = subprocess.run([BINARY, "audit", "--data", str(cluster.nodes[0].data)], capture_output=True, text=True, timeout=60, check=False)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    return [line for line in shown.stdout.splitlines() if "split at slot" in line]


def slot_of(key):
    return binascii.crc_hqx(key.encode(), 0) % SLOT_COUNT


def keys_in(first, end, count):
    """Names of keys, of a slot each, from `first` to before `end`."""
    found = {}
    number = 0
    while len(found) < count:
        key = f"hot:{number}"
        number += 1
        if first <= slot_of(key) < end:
            found.setdefault(slot_of(key), key)
    return [found[slot] for slot in sorted(found)]


def leaders(cluster):
    """The nodes that lead shards; a shard that was just born may not be led yet."""
    return {shard["leader"] for shard in shards_of(cluster)} - {None, 0}


QUIET_SECONDS = 15


def wait_until_quiet(cluster, seconds):
    """No shard has split for a while, and none is about to; how many there are."""
    count, since = 0, 0.0

    def is_quiet():
        nonlocal count, since
        time.sleep(1)
        seen = cluster.ask("shards")
        before, count = count, len(seen.get("shards", []))
        if count != before or seen.get("planned") != []:
            since = time.monotonic()
        return time.monotonic() - since >= QUIET_SECONDS
    wait_for(is_quiet, "it comes to an end", seconds)
    return count


class Hot:
    """Clients that read and write given keys, evenly, through given nodes: several times what makes a shard a busy one, and no more, so
    that other tests have processors."""

    INTERVAL_S = 0.01

    def __init__(self, nodes, keys):
        self.keys = keys
        self.asked = [0] * len(nodes)
        self.is_over = False
        self.threads = [threading.Thread(target=self.run, args=(i, node), daemon=True) for i, node in enumerate(nodes)]
        for thread in self.threads:
            thread.start()

    def run(self, number, node):
        client = node.client(socket_timeout=30)
        place = number
        turn = time.monotonic()
        while not self.is_over:
            key = self.keys[number % len(self.keys)]
            number += 1
            client.incr(key) if number // len(self.keys) % 2 else client.get(key)
            self.asked[place] += 1
            turn += self.INTERVAL_S
            time.sleep(max(0, turn - time.monotonic()))

    def end(self):
        self.is_over = True
        for thread in self.threads:
            thread.join()


def test_large_shards_split(make_three):
    three = make_three("--split-size", "1mb", "--split-load", "0")
    fill(three.nodes[0].client())
    load = Load(three.nodes * 2)
    pipelines = Pipelines(three.nodes)
    client = three.nodes[1].client(socket_timeout=30)
    values = {f"large:{i}": os.urandom(2000) for i in range(3000)}
    for key, value in values.items():
        client.set(key, value)
    wait_for(lambda: len(shards_of(three)) >= 6, "6 MB are in six shards at least", seconds=180)
    load.end()
    pipelines.end()
    assert not load.errors and not pipelines.wrong, (load.errors, pipelines.wrong[:1])
    assert load.longest < 5
    assert any("size: " in line for line in reasons(three))
    count = wait_until_quiet(three, seconds=180)
    settle(three, count=count, seconds=180)
    assert count <= 32
    for node in three.nodes:
        reader = node.client(decode_responses=True, socket_timeout=30)
        assert counters(node, 6) == load.acknowledged
        assert reader.mget(KEYS) == VALUES
    assert all(client.get(key) == value for key, value in values.items())
    for node in three.nodes:
        assert node.stop() == 0
        check(node)


def test_a_shard_with_one_large_slot_is_left_alone(make_three):
    """Nothing would be better: keys with one {tag} stay together."""
    three = make_three("--split-size", "1mb", "--split-load", "0")
    client = three.nodes[0].client(socket_timeout=30)
    for i in range(3000):
        client.set(f"{{tag}}:{i}", os.urandom(2000))
    # Of rows in the store's write buffer it is a guess, by the heights of a skip list: now and then a third too small.
    wait_for(lambda: shards_of(three)[0].get("size_bytes", 0) > 2 << 20, "its size is known")
    time.sleep(25)
    assert len(shards_of(three)) == 1 and not reasons(three)


def test_busy_shards_split(make_three):
    three = make_three("--split-size", "0", "--split-load", "150")
    fill(three.nodes[0].client())
    for i in range(1000):
        three.nodes[0].client().set(f"more:{i}", os.urandom(1000))
    load = Load(three.nodes * 2)
    try:
        wait_for(lambda: len(leaders(three)) > 1, "two nodes share the load", seconds=120)
    finally:
        load.end()
    assert not load.errors and counters(three.nodes[2], 6) == load.acknowledged
    assert any("load: " in line for line in reasons(three))


def test_the_cut_is_between_the_hot_slots(make_three):
    """A few slots at one end of the shard take the requests, and nearly all bytes are at the other one. Cut where the bytes are halved, one part
    would have all of the requests, as before."""
    three = make_three("--split-size", "0", "--split-load", "150")
    hot = keys_in(100, 300, 6)
    client = three.nodes[0].client()
    for i in range(2000):
        key = f"cold:{i}"
        if slot_of(key) > 1000:
            client.set(key, os.urandom(1000))
    load = Hot(three.nodes * 2, hot)
    try:
        seen = []

        def is_split():
            seen[:] = shards_of(three)
            return len(seen) > 1
        wait_for(is_split, "the shard is split", seconds=120)
        cut = int(seen[1]["first"].split()[1])  # Of the first split: a half may be cut once more, later.
        wait_for(lambda: len(leaders(three)) > 1, "two nodes share the load", seconds=60)
    finally:
        load.end()
    assert slot_of(hot[1]) < cut <= slot_of(hot[4]), (cut, [slot_of(key) for key in hot])
    assert any("load: " in line for line in reasons(three))


def test_a_shard_with_one_hot_slot_is_left_alone(make_three):
    """Nothing would be better: one part would have all of the requests, wherever it is cut."""
    three = make_three("--split-size", "0", "--split-load", "150")
    fill(three.nodes[0].client())
    load = Hot(three.nodes * 2, keys_in(8000, 9000, 1))
    time.sleep(60)
    load.end()
    assert sum(load.asked) > 2 * 60 * 150, load.asked  # Else there was nothing to leave alone.
    assert len(shards_of(three)) == 1 and not reasons(three)
