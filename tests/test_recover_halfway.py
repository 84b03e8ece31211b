# SPDX-License-Identifier: Apache-2.0
"""A majority is gone for good in the middle of something: transactions over several shards that are prepared here and decided
nowhere, and a shard that is just becoming two. One node goes on, every key can be read and written, and nothing is held for ever."""
import signal
import subprocess
import threading
import time

import pytest
import redis

from harness import BINARY
from test_cluster import Cluster
from test_operator import ask
from test_recover import recover
from test_shards import wait_for
from test_split import check, split

COUNT_OF_CLIENTS = 24
COUNT_OF_PARTS = 6
UNLOCKED_SECONDS_MAX = 40  # What a dead coordinator has begun others end within six seconds; its locks go then.


def start_three(tmp_path, shard_count):
    cluster = Cluster(tmp_path)
    cluster.add(["--shards", str(shard_count)])
    cluster.add()
    cluster.add()
    wait_for(lambda: all(len([each for each in shard["replicas"] if each["role"] == "voter"]) == 3 and not shard["is_moving"]
                         for shard in cluster.ask("shards")["shards"]), "three replicas of each")
    return cluster


class Transactions:
    """Clients that add one to keys of their own in all shards, all of them or none."""

    def __init__(self, nodes):
        self.acknowledged = [0] * COUNT_OF_CLIENTS
        self.is_over = False
        self.threads = [threading.Thread(target=self.run, args=(i, nodes[i % len(nodes)])) for i in range(COUNT_OF_CLIENTS)]
        for thread in self.threads:
            thread.start()

    def run(self, number, node):
        client = node.client(socket_timeout=20, retry=None)
        while not self.is_over:
            try:
                add_one(client, number)
                self.acknowledged[number] += 1
            except redis.ResponseError:
                continue  # TRYAGAIN, or it is not known.
            except redis.RedisError:
                return  # The node is gone.

    def end(self):
        self.is_over = True
        for thread in self.threads:
            thread.join()


def keys_of(number):
    return [f"t:{number}:{i}" for i in range(COUNT_OF_PARTS)]


def add_one(client, number):
    with client.pipeline() as transaction:
        for key in keys_of(number):
            transaction.incr(key)
        return transaction.execute()


def add_one_in_time(client, number):
    """Locks of those who are gone are in the way for a while. What it answers, and how long it took."""
    started = time.monotonic()
    while True:
        try:
            return add_one(client, number), time.monotonic() - started
        except redis.RedisError:
            assert time.monotonic() < started + UNLOCKED_SECONDS_MAX, f"the keys of client {number} stay locked"
            time.sleep(0.1)


def stop_short(cluster, survivor, load=None, seconds=0.5):
    """The survivor hears nothing any more, the others go on for a while; then all are killed."""
    survivor.process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    for node in cluster.nodes:
        node.kill()
    if load is not None:
        load.end()


@pytest.mark.parametrize("turn", range(2))
def test_transactions_that_were_half_done(tmp_path, turn):
    """Whether some are at the moment of the stop is chance: then there is another life."""
    for life in range(5):
        directory = tmp_path / str(life)
        directory.mkdir()
        if stop_in_the_middle(directory, turn) > 1:
            return
    raise AssertionError("nothing was half done")


def stop_in_the_middle(directory, turn):
    """How long somebody had to wait for the locks of those who are gone, in seconds."""
    cluster = start_three(directory, 4)
    try:
        survivor = cluster.nodes[turn]
        load = Transactions([node for node in cluster.nodes if node is not survivor])
        wait_for(lambda: min(load.acknowledged) > 0, "everybody has done one")
        time.sleep(1)
        stop_short(cluster, survivor, load)
        done = recover(survivor, "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        survivor.start()
        client = survivor.client(decode_responses=True, socket_timeout=60)
        waited = 0.0
        for number in range(COUNT_OF_CLIENTS):
            first, seconds = add_one_in_time(client, number)
            waited = max(waited, seconds)
            assert add_one(client, number) == [count + 1 for count in first]
            assert client.mget(keys_of(number)) == [str(count + 1) for count in first]
            assert max(first) <= load.acknowledged[number] + 2
        # Nothing is held: a shard can only split when nothing is prepared.
        split(survivor, "--shard", "1")
        assert survivor.stop() == 0
        check(survivor)
        return waited
    finally:
        cluster.stop()


@pytest.mark.parametrize("moment", [0.02, 0.05, 0.08, 0.3])
def test_right_behind_a_split(tmp_path, moment):
    """The survivor may not know of the split, have it and not the child, or both; then it is recovered twice at most."""
    cluster = start_three(tmp_path, 1)
    try:
        survivor = cluster.nodes[1]
        load = Transactions([node for node in cluster.nodes if node is not survivor])
        time.sleep(0.5)
        splitting = subprocess.Popen([BINARY, "split", "--shard", "1", "--data", str(cluster.nodes[0].data)],
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(moment)
        stop_short(cluster, survivor, load)
        splitting.wait()
        recoveries = 0
        client = None
        while client is None:
            done = recover(survivor, "--yes")
            recoveries += 1
            assert done.returncode == 0 and recoveries <= 2, done.stdout + done.stderr
            survivor.start()
            wait_for(lambda: "node.recovered" in survivor.log(), "the others are fenced")
            client = survivor.client(decode_responses=True, socket_timeout=60)
            if not is_whole(survivor):
                client = None
                survivor.stop()
        for number in range(COUNT_OF_CLIENTS):
            first, _ = add_one_in_time(client, number)
            # A wish that was decided may be carried out right now, which also refuses for a moment.
            assert add_one_in_time(client, number)[0] == [count + 1 for count in first]
            assert max(first) <= load.acknowledged[number] + 2
        # A wish that was decided is carried out; else it can be wished again.
        wait_for(lambda: not ask(survivor, "shards")["planned"], "the split")
        before = len(ask(survivor, "shards")["shards"])
        split(survivor, "--shard", "1")
        assert len(ask(survivor, "shards")["shards"]) == before + 1
        assert survivor.stop() == 0
        check(survivor)
    finally:
        cluster.stop()


@pytest.mark.parametrize("is_told_again", [False, True], ids=["once", "again"])
def test_a_split_of_which_only_the_map_is_left(tmp_path, is_told_again):
    """The survivor had heard of a split from somebody whose log is lost, and has not the entry itself: the shard is whole, or
    if the map tells of it still, becomes two now."""
    cluster = start_three(tmp_path, 1)
    try:
        other, survivor, _ = cluster.nodes
        client = other.client()
        for i in range(20):
            client.set(f"key:{i}", i)
        wait_for(lambda: all(each["state"] == "ok" and each.get("lag_entries") == 0
                             for each in ask(other, "shards")["shards"][0]["replicas"]), "all have them")
        survivor.kill()
        split(other, "--shard", "1")
        for node in cluster.nodes:
            node.kill()
        told = (other.data / "shards").read_text(encoding="ascii")
        (survivor.data / "shards").write_text(told, encoding="ascii")
        done = recover(survivor, "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        if is_told_again:
            (survivor.data / "shards").write_text(told, encoding="ascii")
        survivor.start()
        client = survivor.client(decode_responses=True, socket_timeout=60)
        assert [client.getset(f"key:{i}", "new") for i in range(20)] == [str(i) for i in range(20)]
        assert len(ask(survivor, "shards")["shards"]) == (2 if is_told_again else 1)
        if not is_told_again:
            split(survivor, "--shard", "1")  # The number is free.
        assert survivor.stop() == 0
        check(survivor)
    finally:
        cluster.stop()


def is_whole(node, seconds=8):
    """Do all shards that it knows of have a leader? One that was born with the old members has none."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        shards = ask(node, "shards")["shards"]
        if shards and all(shard["leader"] for shard in shards):
            return True
        time.sleep(0.1)
    return False
