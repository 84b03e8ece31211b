# SPDX-License-Identifier: Apache-2.0
"""A disk that is slow, or does not answer at all: others lead, and clients hardly notice."""
import shutil
import signal
import subprocess
import textwrap
import threading
import time

import pytest
from redis.crc import key_slot
from test_cluster import Cluster, Load, counters
from test_shards import settle

SLOW_FLUSH_S = 0.2

SLOW_FLUSHES = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
/* As many milliseconds as the file $DISK_DELAY says, and as long as it is there. */
static void wait_for_disk(void)
{
    const char *path = getenv("DISK_DELAY");
    for (int waited_ms = 0;; waited_ms += 10) {
        char text[16] = {0};
        int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
        if (file < 0)
            return;
        ssize_t size = read(file, text, sizeof text - 1);
        close(file);
        if (size > 0 && waited_ms >= atoi(text))
            return;
        usleep(10000);
    }
}
int fdatasync(int fd)
{
    wait_for_disk();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}
"""


class Disk:
    """The disk of one node, which can be made slow."""

    def __init__(self, path, library):
        self.path = path
        self.environment = {"LD_PRELOAD": str(library), "DISK_DELAY": str(path)}

    def delay(self, seconds):
        """Each flush takes so much longer."""
        new = self.path.with_suffix(".new")
        new.write_text(str(int(1000 * seconds)))
        new.rename(self.path)

    def heal(self):
        self.path.unlink()


@pytest.fixture
def disks(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source, library = tmp_path / "slow.c", tmp_path / "slow.so"
    source.write_text(textwrap.dedent(SLOW_FLUSHES))
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return [Disk(tmp_path / f"delay{number}", library) for number in (1, 2, 3)]


@pytest.fixture
def cluster(tmp_path, disks):
    made = Cluster(tmp_path)
    for disk in disks:
        made.add(environment=disk.environment)
    made.wait_for_voters(3)
    yield made
    made.stop()


@pytest.fixture
def loaded():
    """Begin a load that ends with the test, however that ends."""
    loads = []

    def begin(nodes):
        loads.append(Load(nodes))
        return loads[-1]

    yield begin
    for load in loads:
        load.is_over = True


def is_slow(node):
    _, text = node.get("/metrics")
    return "tutti_wal_disk_slow 1" in text.splitlines()


def wait_until(claim, seconds, what):
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def median_of_writes(node, count=100):
    client = node.client(socket_timeout=30)
    took = []
    for i in range(count):
        started = time.monotonic()
        client.set("measured", i)
        took.append(time.monotonic() - started)
    return sorted(took)[count // 2]


def test_others_lead_while_a_disk_is_slow(cluster, disks, loaded):
    leader = cluster.leader()
    number = cluster.nodes.index(leader)
    others = [node for node in cluster.nodes if node is not leader]
    load = loaded(others)
    disks[number].delay(SLOW_FLUSH_S)
    wait_until(lambda: is_slow(leader), 30, "it is seen that the disk is slow")
    wait_until(lambda: "node.slow_disk" in leader.log(), 5, "it is said, right after the figure")
    cluster.wait(lambda shard: shard["leader"] not in (0, number + 1), "another leader", seconds=30, node=others[0])
    assert median_of_writes(others[0]) < SLOW_FLUSH_S / 2, "writes still wait for the slow disk"
    assert median_of_writes(leader) < SLOW_FLUSH_S / 2, "writes through the slow node wait for its disk"
    time.sleep(3)
    assert cluster.leader() is not leader, "the lead came back to the slow disk"
    disks[number].heal()
    wait_until(lambda: not is_slow(leader), 40, "it is seen that the disk is fast again")
    load.end()
    assert load.errors == []
    assert counters(leader, 2) == load.acknowledged


def test_a_slow_disk_of_a_follower_slows_nobody(cluster, disks):
    leader = cluster.leader()
    number = next(i for i, node in enumerate(cluster.nodes) if node is not leader)
    disks[number].delay(SLOW_FLUSH_S)
    assert median_of_writes(leader) < SLOW_FLUSH_S / 2
    assert median_of_writes(cluster.nodes[number]) < SLOW_FLUSH_S / 2
    disks[number].heal()


def key_in(shard):
    """Any key of the shard."""
    first, end = (int(shard[side].split()[1]) if shard[side] else other for side, other in (("first", 0), ("last", 16384)))
    return next(key for key in map(str, range(100000)) if first <= key_slot(key.encode()) < end)


def p99_of_others(cluster, keys, gray, seconds=4):
    """Of writes to the shards that the gray node does not lead, at the nodes that lead them."""
    led = [(cluster.nodes[shard["leader"] - 1].client(socket_timeout=30), keys[shard["id"]])
           for shard in cluster.ask("shards")["shards"] if shard["leader"] not in (0, gray)]
    took = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        client, key = led[len(took) % len(led)]
        started = time.monotonic()
        client.set(key, len(took))
        took.append(time.monotonic() - started)
        time.sleep(0.002)
    return sorted(took)[len(took) * 99 // 100]


@pytest.mark.parametrize("ailment", ["disk", "processor"])
def test_the_shards_of_others_do_not_suffer_from_a_gray_node(tmp_path, disks, ailment):
    """Not slow enough to be told of: each flush takes 80 ms more, or the node runs a fifth of the time. A busy machine may
    spoil a comparison, not five."""
    cluster = Cluster(tmp_path)
    gray, is_over = 3, threading.Event()
    try:
        for disk in disks:
            cluster.add([] if cluster.nodes else ["--shards", "6"], environment=disk.environment)
        settle(cluster, count=6)
        keys = {shard["id"]: key_in(shard) for shard in cluster.ask("shards")["shards"]}
        process = cluster.nodes[gray - 1].process

        def stumble():
            while not is_over.is_set():
                process.send_signal(signal.SIGSTOP)
                time.sleep(0.08)
                process.send_signal(signal.SIGCONT)
                time.sleep(0.02)

        seen = []
        while not seen or min(ill for _, ill in seen) > 2 * min(healthy for healthy, _ in seen):
            assert len(seen) < 5, f"p99 of the others' shards, healthy and with a gray node: {seen}"
            healthy = p99_of_others(cluster, keys, gray)
            if ailment == "disk":
                disks[gray - 1].delay(0.08)
            else:
                is_over.clear()
                stumbling = threading.Thread(target=stumble)
                stumbling.start()
            try:
                seen.append((healthy, p99_of_others(cluster, keys, gray)))
            finally:
                if ailment == "disk":
                    disks[gray - 1].heal()
                else:
                    is_over.set()
                    stumbling.join()
    finally:
        cluster.stop()


def test_a_leader_whose_disk_does_not_answer_hands_over(cluster, disks, loaded):
    leader = cluster.leader()
    number = cluster.nodes.index(leader)
    others = [node for node in cluster.nodes if node is not leader]
    load = loaded(others)
    time.sleep(0.5)
    disks[number].delay(3600)
    cluster.wait(lambda shard: shard["leader"] not in (0, number + 1), "another leader", seconds=20, node=others[0])
    before = list(load.acknowledged)
    wait_until(lambda: all(now > old + 10 for now, old in zip(load.acknowledged, before)), 10, "writes go on")
    disks[number].heal()
    load.end()
    assert load.errors == []
    assert load.longest < 10, "a write waited too long"
    assert counters(others[0], 2) == load.acknowledged
    wait_until(lambda: counters(leader, 2) == load.acknowledged, 20, "the node with the disk catches up")
