# SPDX-License-Identifier: Apache-2.0
"""Shards become two while they serve: nothing is lost, done twice or out of order, whoever dies in between."""
import json
import random
import shutil
import subprocess
import threading
import time

import pytest
import redis

from harness import BINARY
from test_cluster import Cluster, Load, counters
from test_shards import KEYS, SLOT_COUNT, fill, settle, shards_of, slots, wait_for

VALUES = [str(i) for i in range(len(KEYS))]


def split(node, *arguments):
    """What `tutti split` says, as a program hears it. A node that has just been started has to say what it runs, first."""
    deadline = time.monotonic() + 20
    while True:
        answer = subprocess.run([BINARY, "split", *arguments, "--data", str(node.data), "--json"], capture_output=True,
                                text=True, timeout=60, check=False)
        if "bring it up to date first" not in answer.stdout or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return json.loads(answer.stdout)


def check(node):
    checked = subprocess.run([BINARY, "check", str(node.data)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return checked.stdout


def shards(node):
    answer = subprocess.run([BINARY, "shards", "--data", str(node.data), "--json"], capture_output=True, text=True,
                            timeout=60, check=False)
    return json.loads(answer.stdout or "{}")


def count(node):
    return len(shards(node).get("shards", []))


class Splitting:
    """The last shard is to become two, whoever dies meanwhile."""

    def __init__(self, node, number):
        """`number`: of the shard. Each had the upper half of the one before."""
        self.wanted = number + 1
        self.words = ["--shard", str(number), "--at", str(SLOT_COUNT - (SLOT_COUNT >> number))]
        self.process = self.begin(node)

    def begin(self, node):
        return subprocess.Popen([BINARY, "split", *self.words, "--data", str(node.data)], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def end(self, node):
        """It is done in the end. When the command ended in another way, and nothing is planned, it is asked for again: the slot tells that
        it is the same."""
        is_planned = self.process.wait() == 0

        def is_done():
            seen = shards(node)
            if len(seen.get("shards", [])) < self.wanted and seen.get("planned") == [] and not is_planned:
                self.begin(node).wait()
            return count(node) == self.wanted
        wait_for(is_done, "the split is done")


def is_lost_read(reply):
    return str(reply).startswith("UNKNOWN the answer was lost with its leader")


class Pipelines:
    """Clients whose pipelines write to keys of all slots, some that read what they wrote, and say how it went."""

    def __init__(self, nodes):
        self.wrong = []
        self.count = 0
        self.longest = 0.0
        self.is_over = False
        self.threads = [threading.Thread(target=self.run, args=(i, node), daemon=True) for i, node in enumerate(nodes)]
        for thread in self.threads:
            thread.start()

    def run(self, number, node):
        client = node.client(decode_responses=True, socket_timeout=30)
        keys = [f"p:{number}:{i}" for i in range(12)]
        turn = 0
        last = None
        while not self.is_over:
            turn += 1
            started = time.monotonic()
            try:
                with client.pipeline(transaction=False) as pipeline:
                    for key in keys:
                        pipeline.incr(key)
                        pipeline.get(key)
                    pipeline.mget(keys)
                    pipeline.exists(*keys)
                    # A write with keys in several slots counts as one of all keys, when a leader that lives has lost its
                    # office (docs/redis.md): reads before it may then be answered -UNKNOWN.
                    replies = pipeline.execute(raise_on_error=False) if turn % 2 else []
                    pipeline.mset({key + ":m": turn for key in keys})
                    pipeline.mget([key + ":m" for key in keys])
                    replies += pipeline.execute(raise_on_error=False)
            except redis.RedisError as error:
                self.wrong.append(repr(error))
                return
            expected = []
            for _ in keys:
                expected += [turn, str(turn)]
            expected += [[str(turn)] * 12, 12]
            wrong = [(place, reply, wanted) for place, (reply, wanted) in enumerate(zip(replies, expected)) if reply != wanted]
            is_read = [place % 2 == 1 or place >= 24 for place in range(26)]
            if not all(turn % 2 == 0 and is_read[place] and is_lost_read(reply) for place, reply, _ in wrong):
                self.wrong.append((turn, wrong))
                return
            # A transaction over shards may be refused while one of them splits; then it did nothing.
            is_refused = str(replies[26]).startswith("TRYAGAIN")
            last = last if is_refused else str(turn)
            if replies[27] != [last] * 12 or not (is_refused or replies[26] is True):
                self.wrong.append((turn, replies[26:], last))
                return
            self.count += 1
            self.longest = max(self.longest, time.monotonic() - started)

    def end(self):
        self.is_over = True
        for thread in self.threads:
            thread.join()
        return self


# ---- One node -------------------------------------------------------------------------------------


def test_a_shard_splits_and_its_children_do(make_node):
    node = make_node().start()
    client = node.client(decode_responses=True)
    fill(client)
    client.hset("h", mapping={f"f{i}": i for i in range(500)})
    client.set("expires", 1, px=3_600_000)
    said = split(node, "key:5")
    slot = client.execute_command("CLUSTER KEYSLOT", "key:5")
    assert said["shard"] == 1 and said["new_shard"] == 2 and said["slot"] == slot and said["is_done"]
    for key in ("key:1", "key:2", "key:3"):
        split(node, key)
    split(node, "--shard", "3")
    assert client.dbsize() == len(KEYS) + 2
    assert client.mget(KEYS) == VALUES
    assert client.hlen("h") == 500 and client.hget("h", "f7") == "7" and client.pttl("expires") > 0
    assert sorted(client.scan_iter(match="key:*", count=50)) == sorted(KEYS)
    assert sorted(client.keys("key:*")) == sorted(KEYS)
    assert count(node) == 6
    with client.pipeline() as transaction:
        for key in KEYS[:50]:
            transaction.incr(key)
        assert transaction.execute() == [i + 1 for i in range(50)]
    assert client.delete(*KEYS[:100]) == 100
    node.kill()
    node.start()
    client = node.client(decode_responses=True)
    assert client.dbsize() == len(KEYS) - 98 and client.mget(KEYS[100:]) == VALUES[100:]
    assert count(node) == 6
    split(node, "--shard", "2")
    assert client.mget(KEYS[100:]) == VALUES[100:]
    assert node.stop() == 0
    assert "shard 7" in check(node)
    assert "format = 3" in (node.data / "node.conf").read_text()
    (node.data / "shards").unlink()  # A help only: the store knows.
    node.start()
    assert node.client().dbsize() == len(KEYS) - 98 and count(node) == 7
    assert node.client().flushall() and node.client().dbsize() == 0


def test_what_cannot_be_split_says_why(make_node):
    node = make_node().start()
    fill(node.client())
    split(node, "--shard", "1", "--at", "100")

    def refusal(*arguments):
        answer = subprocess.run([BINARY, "split", *arguments, "--data", str(node.data)], capture_output=True, text=True,
                                timeout=60, check=False)
        assert answer.returncode != 0
        return answer.stdout + answer.stderr

    assert "100" in refusal("--shard", "1", "--at", "100")
    refusal("--shard", "1", "--at", "5000")
    refusal("--shard", "9")
    refusal("--shard", "1", "--at", "20000")
    assert count(node) == 2 and node.client().dbsize() == len(KEYS)


def test_pipelines_keep_their_order_while_shards_split(make_node):
    node = make_node("--reactors", "2").start()
    load = Pipelines([node] * 3)
    for i in range(8):
        time.sleep(0.2)
        split(node, f"p:{i % 3}:{i}")
    time.sleep(0.3)
    load.end()
    assert not load.wrong, load.wrong[:1]
    assert load.count > 20
    node.kill()
    node.start()
    assert count(node) == 9


def test_readers_of_what_expires_live_through_splits(make_node):
    """READONLY: a read that meets what has just expired goes through the log, but never behind a split."""
    node = make_node("--memory", "256mb").start()
    is_over = threading.Event()
    failures = []

    def go_on(command, words):
        client = node.client(socket_timeout=20)
        client.execute_command(command)
        try:
            while not is_over.is_set():
                pipeline = client.pipeline(transaction=False)
                for _ in range(100):
                    pipeline.execute_command(*words(f"t:{random.randrange(300)}"))
                pipeline.execute(raise_on_error=False)
        except redis.RedisError as error:
            failures.append(error)

    threads = [threading.Thread(target=go_on, args=("PING", lambda key: ("SET", key, "v", "PX", random.randrange(1, 12))))
               for _ in range(3)]
    threads += [threading.Thread(target=go_on, args=("READONLY", lambda key: ("GET", key))) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for i in range(20):
            split(node, "--shard", str(i // 2 + 1))
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert not failures
    node.kill()
    node.start()
    assert node.stop() == 0
    check(node)


def test_watch_lives_through_a_split(make_node):
    node = make_node().start()
    client = node.client()
    for touched in (None, "w:1"):
        with client.pipeline() as transaction:
            transaction.watch("w:0", "w:1")
            split(node, "w:0" if touched is None else "w:1")
            if touched:
                node.client().incr(touched)
            transaction.multi()
            transaction.incr("w:2")
            if touched:
                with pytest.raises(redis.WatchError):
                    transaction.execute()
            else:
                assert transaction.execute() == [1]


def test_the_store_comes_back_as_it_was_before_the_split(make_node):
    """As after a crash before it was flushed: the log has the split, and so has the file `shards`."""
    node = make_node().start()
    fill(node.client())
    assert node.stop() == 0
    shutil.copytree(node.data / "store", node.data.with_name("store"))
    node.start()
    client = node.client(decode_responses=True)
    split(node, "--shard", "1")
    assert all(client.set(key, "new") for key in KEYS[:100])
    node.kill()
    shutil.rmtree(node.data / "store")
    node.data.with_name("store").rename(node.data / "store")
    node.start()
    client = node.client(decode_responses=True)
    assert client.mget(KEYS) == ["new"] * 100 + VALUES[100:] and client.dbsize() == len(KEYS)
    assert count(node) == 2 and node.stop() == 0
    check(node)


def test_one_shard_is_cut_again_and_again(make_node):
    """Also while the rows of the cluster, which it has, are asked for and changed."""
    node = make_node("--memory", "128mb").start()
    fill(node.client())
    is_over = False

    def ask():
        while not is_over:
            subprocess.run([BINARY, "token", "--data", str(node.data)], capture_output=True, timeout=60, check=False)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(32):
        split(node, "--shard", "1", "--at", str(16000 - 400 * i))
    is_over = True
    for thread in threads:
        thread.join()
    assert count(node) == 33 and node.client(decode_responses=True).mget(KEYS) == VALUES
    assert node.client().dbsize() == len(KEYS)


def test_kills_around_a_split(make_node):
    """Whatever was acknowledged is there, and every key is in one shard, wherever the kill was."""
    node = make_node().start()
    rng = random.Random(7)
    for turn in range(6):
        load = Load([node] * 4)
        time.sleep(0.2)
        splitting = Splitting(node, turn + 1)
        time.sleep(rng.uniform(0, 0.25))
        node.kill()
        load.end()
        node.start()
        splitting.end(node)
        for acknowledged, counted in zip(load.acknowledged, counters(node, 4)):
            assert acknowledged <= counted <= acknowledged + 1
        node.client().flushall()
    assert node.stop() == 0
    check(node)


# ---- Three nodes ----------------------------------------------------------------------------------


@pytest.fixture
def three(tmp_path):
    cluster = Cluster(tmp_path)
    for _ in range(3):
        cluster.add()
    cluster.wait_for_voters(3)
    yield cluster
    cluster.stop()


def test_shards_split_under_load(three):
    fill(three.nodes[0].client())
    load = Load(three.nodes * 3)
    pipelines = Pipelines(three.nodes)
    for i in range(5):
        split(three.nodes[i % 3], f"key:{i}")
        time.sleep(0.3)
    settle(three, count=6)
    ranges = slots(three.nodes[1])
    assert ranges[0][0] == 0 and ranges[-1][1] == SLOT_COUNT - 1 and len(shards_of(three)) == 6
    load.end()
    pipelines.end()
    assert not load.errors and not pipelines.wrong, (load.errors, pipelines.wrong[:1])
    assert load.longest < 5
    for node in three.nodes:
        assert counters(node, 9) == load.acknowledged
        assert node.client(decode_responses=True).mget(KEYS) == VALUES


def test_nodes_die_while_shards_split(three):
    rng = random.Random(3)
    for turn in range(5):
        victim = three.nodes[rng.randrange(3)]
        others = [node for node in three.nodes if node is not victim]
        load = Load(others * 2)
        splitting = Splitting(others[0], turn + 1)
        time.sleep(rng.uniform(0, 0.4))
        victim.kill()
        splitting.process.wait()
        time.sleep(1)
        load.end()
        assert not load.errors, load.errors[:2]
        assert counters(others[1], 4) == load.acknowledged
        victim.start()
        splitting.end(others[0])
        three.nodes[0].client().flushall()
    settle(three, count=6)
    for node in three.nodes:
        assert node.stop() == 0
        assert "shard 6" in check(node)


def test_a_replica_that_was_away_gets_the_children(three):
    away = three.nodes[2]
    fill(three.nodes[0].client())
    away.kill()
    client = three.nodes[0].client()
    for shard in ("1", "2"):
        split(three.nodes[0], "--shard", shard)
        with client.pipeline(transaction=False) as pipeline:
            for i in range(3000):
                pipeline.set(f"more:{shard}:{i}", b"x" * 2000)
            pipeline.execute()
    away.start()
    settle(three, count=3)
    assert away.client().dbsize() == len(KEYS) + 6000
    assert away.client(decode_responses=True).mget(KEYS) == VALUES


def test_a_node_that_joins_after_splits_gets_every_shard(three):
    fill(three.nodes[0].client())
    split(three.nodes[0], "--shard", "1")
    split(three.nodes[1], "--shard", "2")
    late = three.add()
    three.ask("drain", "2", node=three.nodes[0])
    settle(three, count=3, nodes=(1, 3, 4))
    split(late, "--shard", "1")
    settle(three, count=4, nodes=(1, 3, 4))
    three.nodes[1].kill()
    assert late.client(decode_responses=True).mget(KEYS) == VALUES
    assert late.client().dbsize() == len(KEYS)


def test_a_replica_that_was_replaced_while_it_was_away_is_given_up(three):
    """Node 2 is away while another takes its place and the shard splits. It comes back with the old range, gives that up, and can
    be given both shards again."""
    away = three.nodes[1]
    fill(three.nodes[0].client())
    late = three.add()
    away.kill()
    three.ask("drain", "2", node=three.nodes[0])
    settle(three, count=1, nodes=(1, 3, 4), is_spread=False)
    split(three.nodes[0], "--shard", "1")
    settle(three, count=2, nodes=(1, 3, 4), is_spread=False)
    with three.nodes[0].client().pipeline(transaction=False) as pipeline:
        for number, key in enumerate(KEYS):
            pipeline.set(key, number + 1)
        pipeline.execute()
    away.start()
    wait_for(lambda: "node.replica_discarded shard=1" in away.log(), "node 2 gives up what it had")
    three.ask("drain", "2", "--cancel", node=three.nodes[0])
    three.ask("drain", "4", node=three.nodes[0])
    settle(three, count=2, nodes=(1, 2, 3), is_spread=False)
    wait_for(lambda: late.log().count("node.replica_discarded") == 2, "node 4 gives up both")
    # What it has is what the others have, without them, too.
    three.nodes[2].kill()
    expected = [str(number + 1) for number in range(len(KEYS))]
    assert away.client(decode_responses=True, socket_timeout=30).mget(KEYS) == expected
    for node in (away, late):
        assert node.stop() == 0
        check(node)
