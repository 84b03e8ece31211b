# SPDX-License-Identifier: Apache-2.0
"""What an operator of several nodes asks one of them, whichever: it knows, or asks the others."""
import json
import os
import signal
import subprocess
import threading
import time

import pytest
import redis

from harness import BINARY, post
from test_cluster import Cluster, three, cluster  # pylint: disable=unused-import
from test_slow_disk import disks  # pylint: disable=unused-import
from test_shards import shards_of, wait_for


def tutti(node, *words):
    return subprocess.run([BINARY, *words, "--data", str(node.data)], capture_output=True, text=True, timeout=60, check=False)


def ask(node, *words):
    return json.loads(tutti(node, *words, "--json").stdout)


@pytest.fixture
def four(tmp_path):
    """Four nodes, two shards: each shard has three replicas, so every node lacks one of something. No node leads both, so
    that the conductor has nothing to move."""
    made = Cluster(tmp_path)
    made.add(["--shards", "2", "--zone", "a"])
    for zone in "bcd":
        made.add(["--zone", zone])
    def is_settled():
        shards = shards_of(made)
        return len({shard["leader"] for shard in shards} - {0}) == 2 and all(len(shard["replicas"]) == 3 and not shard["is_moving"] for shard in shards) and \
            all(node["shards"] for node in ask(made.nodes[0], "nodes")["nodes"])
    wait_for(is_settled, "three replicas of each, something on every node")
    yield made
    made.stop()


class Traffic:
    """Sets and gets keys of all shards through each of the nodes, at a rate that a busy machine keeps, until the end."""

    INTERVAL_S = 0.1

    def __init__(self, nodes):
        self.is_over = False
        self.threads = [threading.Thread(target=self.run, args=(node,), daemon=True) for node in nodes]
        for thread in self.threads:
            thread.start()

    def run(self, node):
        client = node.client(socket_timeout=30)
        number = 0
        turn = time.monotonic()
        while not self.is_over:
            turn += self.INTERVAL_S
            try:
                # Apart: a read with a write behind it may go through the log, and counts as what it is there.
                with client.pipeline(transaction=False) as pipeline:
                    for i in range(10):
                        pipeline.set(f"key:{(number + i) % 3000}", os.urandom(400))
                    pipeline.execute()
                    for i in range(10):
                        pipeline.get(f"key:{(number + i) % 3000}")
                        pipeline.get(f"key:{(number + i) * 7 % 3000}")
                    pipeline.execute()
                number += 10
            except redis.RedisError:
                pass
            time.sleep(max(0, turn - time.monotonic()))

    def end(self):
        self.is_over = True
        for thread in self.threads:
            thread.join()


@pytest.fixture
def traffic():
    made = []

    def make(nodes):
        made.append(Traffic(nodes))
        return made[-1]

    yield make
    for each in made:
        each.end()


def leader_of(node, number):
    return next(shard["leader"] for shard in ask(node, "shards")["shards"] if shard["id"] == number)


def whole_view(node):
    """The shards as the node sees them, once it does: right after a change of leaders, or when others are slow to answer, it
    may not know of all replicas, or how they are."""
    seen = []

    def is_whole():
        seen[:] = ask(node, "shards").get("shards", [])
        return bool(seen) and all(shard["leader"] != 0 and "no_figures" not in shard
                                  and [each["state"] for each in shard["replicas"]] == ["ok"] * 3 for shard in seen)

    wait_for(is_whole, "three replicas of each shard that are well and a leader, seen by a node")
    return seen


def whole_figures(node):
    """The nodes as the node sees them, once all of them answered it in time."""
    seen = []

    def is_whole():
        seen[:] = ask(node, "nodes")["nodes"]
        return not any("no_figures" in each for each in seen)

    wait_for(is_whole, "figures of all nodes, seen by a node")
    return seen


# ---- Handing leadership over


def test_leadership_is_handed_over_at_any_node(four):
    """Whichever node is asked, also one that has no replica of the shard."""
    for number, node in enumerate(four.nodes + four.nodes[:1]):
        shard = number % 2 + 1
        shards = whole_view(node)
        known = next(each for each in shards if each["id"] == shard)
        leaders = [each["leader"] for each in shards]  # Who leads both would have to give one away again.
        target = next(each["node"] for each in known["replicas"] if each["node"] not in leaders)
        shown = tutti(node, "transfer", str(shard), str(target))
        assert (shown.returncode, shown.stderr) == (0, ""), shown
        # The conductor may have been about to do the same.
        assert shown.stdout in (f"node {target} leads shard {shard} now\n", f"node {target} leads shard {shard} already\n")
        assert leader_of(four.nodes[target - 1], shard) == target, "it is said when it is done"
        again = tutti(node, "transfer", str(shard), str(target))
        assert (again.returncode, again.stdout) == (0, f"node {target} leads shard {shard} already\n")
    answer = ask(four.nodes[0], "transfer", "1", str(leader_of(four.nodes[0], 1)))
    assert answer["shard"] == 1 and answer["took_ms"] < 3000


def test_the_records_tell_who_led_and_who_came_for_whom(four):
    """What an operator did as well as what the cluster did by itself, with both nodes of a step that is about two."""
    other = next(each["node"] for each in shards_of(four)[1]["replicas"] if each["node"] != leader_of(four.nodes[0], 2))
    assert tutti(four.nodes[0], "transfer", "2", str(other)).returncode == 0
    here = {each["node"] for each in shards_of(four)[1]["replicas"]}
    comes, goes = ({1, 2, 3, 4} - here).pop(), next(node for node in here if node != other)
    assert tutti(four.nodes[0], "drain", str(goes), "--wait").returncode == 0

    def is_written():
        texts = [record["text"] for record in ask(four.nodes[0], "audit")["records"]]
        return f"shard 2: transfer_leader node {other} (operator)" in texts and f"shard 2: replace node {goes} by node {comes} (drain)" in texts
    wait_for(is_written, "records of both", seconds=20)


def test_who_was_told_of_a_change_sees_it_there(three):
    """The node that is asked has a copy of its own of the first shard, which is behind its leader's by as much as a message."""
    for turn in range(10):
        for node in three.nodes:
            for body, expected in (({"node": 3}, ("draining", "drained")), ({"node": 3, "cancel": True}, ("active",))):
                status, answer = post(node, "drain", body)
                assert status == 200, answer
                state = post(node, "nodes", {"all": True})[1]["nodes"][2]["state"]
                assert state in expected, (turn, body)
    for number in (1.5, 0, -1, 2 ** 32, "1"):  # None of them is taken for another one.
        assert post(three.nodes[0], "drain", {"node": number})[0] == 400, number
    assert post(three.nodes[0], "transfer", {"node": 1, "shard": 1.5})[0] == 404


def test_who_waits_when_the_node_stops_is_told_so(three):
    node = three.nodes[0]
    for other in three.nodes[1:]:
        other.kill()
    asked = subprocess.Popen([BINARY, "drain", "2", "--data", str(node.data)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(2)
    assert asked.poll() is None  # There is no leader.
    assert node.stop() == 0
    _, said = asked.communicate(timeout=20)
    assert asked.returncode == 1 and "the node is stopping; what was asked for may be done all the same" in said, said


def test_who_removes_itself_is_told_so(three):
    """Others let nobody in who was removed: it may never see its own removal."""
    node = three.nodes[2]
    shown = tutti(node, "remove", "3", "--force")
    assert (shown.returncode, shown.stderr) == (0, ""), shown
    assert node.ended() == 0


@pytest.mark.parametrize("words, said", [(["audit"], "bootstrap"), (["split", "--shard", "1", "--at", "9000"], "")])
def test_who_asks_before_the_cluster_is_made_waits(make_node, disks, words, said):
    """A node serves before it has written down that it is a cluster: on a slow disk there is time to ask."""
    disks[0].delay(0.3)
    node = make_node(environment=disks[0].environment).start()
    shown = tutti(node, *words)
    assert "no cluster" not in shown.stderr and said in shown.stdout, shown


def test_what_is_asked_meanwhile_waits(four):
    """A first shard that hands its leadership over takes no command for a moment. Neither an operator hears of that, nor who joins."""
    refused, counts, is_over = [], [0] * 4, False

    def ask_all_the_time(number):
        while not is_over:
            status, answer = post(four.nodes[number], "replicas", {"replicas": 3})
            counts[number] += 1
            if status != 200:
                refused.append((number, answer))

    threads = [threading.Thread(target=ask_all_the_time, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(12):
        first = whole_view(four.nodes[0])[0]
        target = next(each["node"] for each in first["replicas"] if each["node"] != first["leader"])
        assert post(four.nodes[first["leader"] - 1], "transfer", {"shard": 1, "node": target})[0] == 200
    is_over = True
    for thread in threads:
        thread.join()
    assert not refused and min(counts) > 0, (refused[:3], len(refused), counts)


def test_leadership_is_not_handed_to_who_cannot_have_it(four):
    shard = whole_view(four.nodes[0])[0]
    stranger = ({1, 2, 3, 4} - {each["node"] for each in shard["replicas"]}).pop()
    for node in four.nodes:
        shown = tutti(node, "transfer", "1", str(stranger))
        assert (shown.returncode, shown.stdout) == (1, "") and f"node {stranger} has no replica of shard 1" in shown.stderr
    assert "no replica" in tutti(four.nodes[1], "transfer", "1", "99").stderr
    unknown = tutti(four.nodes[1], "transfer", "3", "1")
    assert unknown.returncode == 1 and "there is no shard 3" in unknown.stderr
    assert whole_view(four.nodes[0])[0]["leader"] == shard["leader"]


# ---- Figures


def near(value, expected, part=0.5):
    return expected * (1 - part) <= value <= expected * (1 + part)


def test_every_node_tells_of_all(four, traffic):
    traffic(four.nodes[:3])
    time.sleep(6)
    views = [whole_figures(node) for node in four.nodes]
    for view in views:
        assert [node["id"] for node in view] == [1, 2, 3, 4] and [node["zone"] for node in view] == list("abcd")
        for node in view:
            assert "no_figures" not in node
            assert node["memory_bytes"] > 10 << 20 and node["memory_limit_bytes"] == 128 << 20
            assert node["used_bytes"] + node["free_bytes"] == node["capacity_bytes"] > 0
            assert node["uptime_s"] >= 5 and node["log_bytes"] > 0 and node["lag_ms"] < 2000
        for node in view[:3]:
            assert node["writes_per_s"] > 20 and near(node["reads_per_s"], 2 * node["writes_per_s"])
            assert 0 < node["read_p50_us"] <= node["read_p99_us"] and 0 < node["write_p50_us"] <= node["write_p99_us"]
            assert node["connections"] >= 1
        assert view[3]["reads_per_s"] == view[3]["writes_per_s"] == 0 and "read_p99_us" not in view[3]
    served = sum(node["writes_per_s"] for node in views[3])
    for node in four.nodes:
        shards = whole_view(node)
        assert near(sum(shard["writes_per_s"] for shard in shards), served), "what was served was applied"
        assert near(sum(shard["reads_per_s"] for shard in shards), 2 * served)
        assert sum(shard["keys"] for shard in shards) > 300
        for shard in shards:
            assert all(each["lag_ms"] < 2000 and each["lag_entries"] < 1000 for each in shard["replicas"])
    load = ask_status(four.nodes[3])["load"]
    assert near(load["writes_per_s"], served) and near(load["reads_per_s"], 2 * served)
    assert 0 < load["write_p50_us"] <= load["write_p99_us"]


def ask_status(node):
    answer = tutti(node, "top", "--json")
    return json.loads(answer.stdout)["status"]


def test_sizes_follow_what_is_stored(four):
    client = four.nodes[0].client(socket_timeout=30)
    for number in range(1000):
        client.set(f"{{a}}{number}", os.urandom(4000))  # One slot: one shard.
    # Of what is in the store's write buffer it is a guess, now and then half of it; of its files it is known. Who stops writes them.
    for node in four.nodes:
        assert node.stop() == 0
        node.start()
    slot_of_a = client.execute_command("CLUSTER KEYSLOT", "{a}")
    full = 1 if slot_of_a < 8192 else 2

    def sizes():
        return {shard["id"]: shard.get("size_bytes", 0) for shard in ask(four.nodes[2], "shards")["shards"]}
    wait_for(lambda: near(sizes()[full], 4_000_000, 0.4), "its size is about what was written", seconds=20)
    assert sizes()[3 - full] < 1_000_000


def stop_and_ask(asked, stuck):
    """What a node says of one that has just stopped short. It gives it up after three seconds, and others that are slow are late, too; so
    on a busy machine it may take more than one try to see a moment at which only that one is late."""
    late = "it did not answer within a second"
    for _ in range(5):
        whole_figures(asked)
        os.kill(stuck.process.pid, signal.SIGSTOP)
        started = time.monotonic()
        with subprocess.Popen([BINARY, "nodes", "--data", str(asked.data)], stdout=subprocess.PIPE, text=True) as other:
            answer = ask(asked, "nodes")
            took = time.monotonic() - started
            shown = other.communicate()[0]
        if ([node.get("no_figures") for node in answer["nodes"]] == [None, None, None, late] and 0.9 < took < 5
                and f"No figures of node 4: {late}.\n" in shown):
            return answer
        os.kill(stuck.process.pid, signal.SIGCONT)
    raise AssertionError((answer, shown, took))


def test_a_node_that_is_stuck_is_named(four, traffic):
    """It costs a second, its cells are empty, and it is said why; the others are as they are."""
    traffic(four.nodes[:2])
    time.sleep(2)
    asked, stuck = four.nodes[0], four.nodes[3]
    try:
        answer = stop_and_ask(asked, stuck)
        assert "reads_per_s" not in answer["nodes"][3] and "memory_bytes" not in answer["nodes"][3]
        assert all(node["memory_bytes"] > 0 for node in answer["nodes"][:3])
        wait_for(lambda: ask(asked, "nodes")["nodes"][3].get("no_figures") == "it is not connected", "it is given up", seconds=20)

        def is_not_waited_for():
            started = time.monotonic()
            health = ask(asked, "nodes")["nodes"][3]["health"]
            return health == "dead" and time.monotonic() - started < 0.9
        wait_for(is_not_waited_for, "who is not connected is not waited for", seconds=20)
        behind = [each for shard in ask(asked, "shards")["shards"] for each in shard["replicas"] if each["node"] == 4]
        assert behind and all(each["state"] == "unreachable" for each in behind)
        wait_for(lambda: ask(asked, "nodes")["nodes"][3].get("lag_ms", 0) > 3000, "its lag in time", seconds=20)
        wait_for(lambda: ask_status(asked)["without_figures"] == [4], "the others tell of themselves", seconds=20)
    finally:
        os.kill(stuck.process.pid, signal.SIGCONT)
    wait_for(lambda: "no_figures" not in ask(asked, "nodes")["nodes"][3], "it is back", seconds=20)


def test_a_node_alone_tells_of_itself(node):
    client = node.client()

    def is_told_of():
        for number in range(50):
            client.set("a", number)
            client.get("a")
        return ask(node, "nodes")["nodes"][0].get("writes_per_s", 0) > 20
    wait_for(is_told_of, "rates", seconds=10)
    shown = ask(node, "nodes")["nodes"][0]
    assert shown["memory_bytes"] > 0 and shown["lag_ms"] == 0 and shown["write_p99_us"] > 0
    assert ask(node, "shards")["shards"][0]["replicas"] == [{"node": 1, "role": "voter", "lag_entries": 0, "lag_ms": 0, "state": "ok"}]
    wait_for(lambda: ask(node, "nodes")["nodes"][0]["writes_per_s"] == 0, "rates are of the last seconds", seconds=15)


# ---- Who is there ---------------------------------------------------------------------------------


def test_who_slept_hears_of_a_newcomer_that_leads_the_first_shard(four):
    """It has no replica of that shard, so it asks who is there; but only that leader, whom it does not know, would answer."""
    first = whole_view(four.nodes[0])[0]
    members = {each["node"] for each in first["replicas"]}
    sleeper = four.nodes[({1, 2, 3, 4} - members).pop() - 1]
    asked = four.nodes[first["leader"] - 1]
    sleeper.process.send_signal(signal.SIGSTOP)
    try:
        four.add(["--zone", "e"])
        leaving = next(node for node in sorted(members) if node != first["leader"])
        assert "error" not in ask(asked, "drain", str(leaving))
        wait_for(lambda: any(each["node"] == 5 and each["role"] == "voter" for each in ask(asked, "shards")["shards"][0]["replicas"]),
                 "the newcomer has a replica")
        wait_for(lambda: tutti(asked, "transfer", "1", "5").returncode == 0, "the newcomer leads")
    finally:
        sleeper.process.send_signal(signal.SIGCONT)
    wait_for(lambda: ask(sleeper, "shards")["shards"][0]["leader"] == 5, "the one that slept sees it", seconds=20)
    assert sleeper.client(socket_timeout=20).set("a", "1")


def test_a_stop_ends_a_transfer_that_waits(four):
    """Who asked hears that the node stops, and it stops in good order."""
    asked = four.nodes[0]
    shard = whole_view(asked)[0]
    target = next(each["node"] for each in shard["replicas"] if each["node"] not in (1, shard["leader"]))
    # It is asked to take over and does not; so the one that was asked waits, and looks again and again.
    os.kill(four.nodes[target - 1].process.pid, signal.SIGSTOP)
    try:
        waiting = subprocess.Popen([BINARY, "transfer", "1", str(target), "--data", str(asked.data)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(1)
        assert waiting.poll() is None
        assert asked.stop() == 0
        _, errors = waiting.communicate(timeout=20)
        assert waiting.returncode != 0 and "stop" in errors, errors
    finally:
        os.kill(four.nodes[target - 1].process.pid, signal.SIGCONT)
    assert "assertion failed" not in asked.log()
