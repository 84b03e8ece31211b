# SPDX-License-Identifier: Apache-2.0
"""A majority is gone for good: one node goes on with what it has, and whoever comes back after that is refused."""
import json
import subprocess

import pytest

from harness import BINARY, Node
from test_cli_cluster import run_on_terminal
from test_cluster import Cluster
from test_operator import ask, tutti
from test_shards import wait_for


@pytest.fixture(params=[1, 4], ids=["one_shard", "four_shards"])
def three(tmp_path, request):
    made = Cluster(tmp_path)
    made.add(["--shards", str(request.param)])
    made.add()
    made.add()
    wait_for(lambda: all(len([each for each in shard["replicas"] if each["role"] == "voter"]) == 3 and not shard["is_moving"]
                         for shard in made.ask("shards")["shards"]), "three replicas of each")
    yield made
    made.stop()


def recover(node, *words):
    return subprocess.run([BINARY, "recover", "--data", str(node.data), *words], capture_output=True, text=True, timeout=60,
                          check=False, stdin=subprocess.DEVNULL)


def fill(client, name, count):
    with client.pipeline(transaction=False) as pipeline:
        for number in range(count):
            pipeline.set(f"{name}:{number}", number)
        pipeline.execute()


def values(client, name, count):
    with client.pipeline(transaction=False) as pipeline:
        for number in range(count):
            pipeline.get(f"{name}:{number}")
        return pipeline.execute()


def expected(count):
    return [str(number).encode() for number in range(count)]


def nobody_lags(node):
    """Has each replica all entries of its shard, as far as the node hears of all of them?"""
    shards = ask(node, "shards").get("shards", [])
    lags = [each.get("lag_entries") for shard in shards for each in shard["replicas"]]
    return len(lags) == 3 * len(shards) > 0 and not any(lag != 0 for lag in lags)


def ended(node, seconds=20):
    """The exit code of a node that ends by itself."""
    return node.process.wait(timeout=seconds)


def test_one_node_goes_on_and_the_others_never_come_back(three):
    survivor, second, third = three.nodes[2], three.nodes[0], three.nodes[1]
    fill(second.client(socket_timeout=30), "both", 500)
    wait_for(lambda: nobody_lags(second), "the survivor has it")
    survivor.kill()
    fill(second.client(socket_timeout=30), "lost", 500)  # Acknowledged, and never on the survivor.
    second.kill()
    third.kill()
    running = survivor.launch()
    wait_for(lambda: (survivor.data / "control").exists() and "unavailable" in tutti(survivor, "nodes").stdout, "no majority", seconds=30)
    refused = recover(survivor, "--yes")
    assert refused.returncode == 1 and "a node runs on" in refused.stderr and "Stop it first" in refused.stderr
    assert running.stop() == 0

    # The plan says what may be lost, and nothing has happened yet.
    shown = recover(survivor)
    assert shown.returncode == 1 and "nothing was done" in shown.stderr
    assert "Fenced, for ever, whatever they still have: nodes 1 and 2\nGoing on with: nodes 3\n" in shown.stdout
    assert "the last one known here; what others acknowledged after it is lost (the newest here: 20" in shown.stdout
    plan = json.loads(recover(survivor, "--json").stdout)
    assert (plan["lost_nodes"], plan["surviving_nodes"]) == ([1, 2], [3])
    assert all(shard["outcome"] == "may_lose" and shard["last_index"] > 0 for shard in plan["shards"])
    # They can all come back, for nothing was done; also when a recovery ended after it wrote whom to fence.
    (survivor.data / "fence").write_text("node 3 went on alone, shard 1 from entry 7; fenced: 1, 2")
    second.start()
    third.start()
    survivor.start()
    assert "node.recovery_void" in survivor.log() and (survivor.data / "fence").read_text() == ""
    wait_for(lambda: tutti(survivor, "nodes").stdout.startswith("healthy"), "as before", seconds=30)
    assert values(survivor.client(socket_timeout=30), "lost", 500) == expected(500)
    wait_for(lambda: nobody_lags(second), "the survivor has it, too")
    survivor.kill()
    fill(second.client(socket_timeout=30), "gone", 500)
    for node in (second, third):
        node.kill()

    done = recover(survivor, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    survivor.start()
    client = survivor.client(socket_timeout=30)
    assert values(client, "both", 500) == expected(500) and values(client, "lost", 500) == expected(500)
    assert values(client, "gone", 500) == [None] * 500
    fill(client, "new", 500)
    wait_for(lambda: "node.recovered" in survivor.log(), "the others are fenced")
    view = ask(survivor, "nodes", "--all")
    assert view["verdict"] == "healthy: 1 node, every replica in place"
    assert {node["id"]: node["state"] for node in view["nodes"]} == {1: "removed", 2: "removed", 3: "active"}
    kinds = [record["kind"] for record in ask(survivor, "audit")["records"]]
    text = next(record["text"] for record in ask(survivor, "audit")["records"] if record["kind"] == "recovery")
    assert kinds.count("remove") == 2 and kinds.count("recovery") == 1
    assert text.startswith("node 3 went on alone, shard 1 from entry ") and text.endswith("fenced: 1, 2")

    # They come back, together, which would be a majority of what they know.
    second.launch()
    third.launch()
    for node in (second, third):
        assert ended(node) == 0
        assert "node.removed" in node.log() and "empty data directory" in node.log()
    assert values(client, "gone", 500) == [None] * 500 and values(client, "new", 500) == expected(500)
    assert recover(survivor).returncode == 1

    # The cluster grows again, from the one.
    for _ in range(2):
        number = len(three.nodes) + 1
        token = json.loads(tutti(survivor, "token", "--json").stdout)["token"]
        three.nodes.append(Node(three.directory / f"node{number}", [
            "--memory", "128mb", "--join", f"127.0.0.1:{survivor.peer_port}", "--token", token]).start())
        assert ask(survivor, "nodes")["nodes"][-1]["id"] == number
    wait_for(lambda: all(len([each for each in shard["replicas"] if each["role"] == "voter"]) == 3 and not shard["is_moving"]
                         for shard in ask(survivor, "shards")["shards"]), "three replicas again")
    survivor.kill()
    last = three.nodes[-1].client(socket_timeout=30)
    assert values(last, "both", 500) == expected(500) and values(last, "new", 500) == expected(500)


def test_recovering_twice_and_for_nothing(three):
    survivor = three.nodes[0]
    fill(survivor.client(socket_timeout=30), "key", 100)
    # What is acknowledged is on two of three, and which these are is nobody's choice.
    wait_for(lambda: nobody_lags(survivor), "the survivor has it")
    for node in three.nodes:
        node.kill()
    assert recover(survivor, "--yes").returncode == 0
    again = recover(survivor, "--yes")
    assert again.returncode == 1 and "nothing to recover" in again.stderr
    survivor.start()
    assert values(survivor.client(socket_timeout=30), "key", 100) == expected(100)
    wait_for(lambda: "node.recovered" in survivor.log(), "the others are fenced")
    assert survivor.stop() == 0
    survivor.start()
    assert survivor.log().count("node.recovered") == 1
    assert values(survivor.client(socket_timeout=30), "key", 100) == expected(100)


def test_a_survivor_that_was_being_emptied(three):
    """The others are removed all the same: it is to stay, and the only one there is."""
    survivor = three.nodes[0]
    fill(survivor.client(socket_timeout=30), "key", 100)
    wait_for(lambda: nobody_lags(survivor), "the survivor has it")
    three.ask("drain", "1")
    for node in three.nodes:
        node.kill()
    assert recover(survivor, "--yes").returncode == 0
    survivor.start()
    assert values(survivor.client(socket_timeout=30), "key", 100) == expected(100)
    wait_for(lambda: "node.recovered" in survivor.log(), "the others are fenced")
    assert [node["state"] for node in ask(survivor, "nodes", "--all")["nodes"]] == ["active", "removed", "removed"]


def test_it_asks_for_a_word(three):
    node = three.nodes[0]
    for each in three.nodes:
        each.kill()
    for typed, is_done in [(b"yes\n", False), (b"\n", False), (b"\x04", False), (b"recover\n", True)]:
        code, written = run_on_terminal([str(BINARY), "recover", "--data", str(node.data)], typed, until=b"to go on: ")
        assert (code == 0) == is_done, written
        assert ("Done. Start the node" in written) == is_done and ("Nothing was done" in written) != is_done
        assert ("nothing to recover" in recover(node).stderr) == is_done


def test_directories_that_cannot_be_recovered(tmp_path, make_node):
    nothing = subprocess.run([BINARY, "recover", "--data", str(tmp_path / "none"), "--yes"], capture_output=True, text=True,
                             timeout=20, check=False)
    assert nothing.returncode == 1 and nothing.stderr.startswith("tutti recover: ")
    alone = make_node().start()
    alone.client().set("a", 1)
    assert alone.stop() == 0
    shown = recover(alone, "--yes")
    assert shown.returncode == 1 and "nothing to recover" in shown.stderr
    alone.start()
    assert alone.client().get("a") == b"1"


def test_a_removed_node_stops(tmp_path):
    made = Cluster(tmp_path)
    try:
        made.add()
        made.add()
        wait_for(lambda: len(ask(made.nodes[0], "nodes")["nodes"]) == 2, "two nodes")
        made.ask("drain", "2")
        wait_for(lambda: ask(made.nodes[0], "nodes")["nodes"][1]["state"] == "drained", "it is empty")
        made.ask("remove", "2")
        assert ended(made.nodes[1]) == 0 and "node.removed" in made.nodes[1].log()
        assert made.nodes[0].client().set("a", 1)
    finally:
        made.stop()
