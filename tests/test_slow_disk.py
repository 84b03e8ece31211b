# SPDX-License-Identifier: Apache-2.0
"""A disk that is slow, or does not answer at all: others lead, and clients hardly notice."""
import shutil
import subprocess
import textwrap
import time

import pytest
from test_cluster import Cluster, Load, counters

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
