# SPDX-License-Identifier: Apache-2.0
"""What `tutti split` refuses, and what it says then."""
import http.client
import json
import socket
import threading
import time

import pytest

from harness import Node, post
from test_operator import tutti
from test_shards import wait_for

REFUSED = 1


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """A node with four shards of 4096 slots each."""
    with Node(tmp_path_factory.mktemp("four") / "data", ["--shards", "4"]) as node:
        yield node


@pytest.mark.parametrize("words, code, sentence", [
    (["--shard", "9"], "unknown", "there is no shard 9; `tutti shards` shows those that there are"),
    (["--shard", "2", "--at", "4096"], "state",
     "shard 2 begins at slot 4096 already, and has slots 4096 to 8191: name a later one, as in `tutti split --shard 2 --at 6144`"),
    ([""], "state",
     "shard 1 begins at slot 0 already, and has slots 0 to 4095: name a later one, as in `tutti split --shard 1 --at 2048`"),
    (["--shard", "2", "--at", "4095"], "arguments", "shard 2 has slots 4096 to 8191; slot 4095 is none of them"),
    (["--shard", "2", "--at", "8192"], "arguments", "shard 2 has slots 4096 to 8191; slot 8192 is none of them"),
    (["--shard", "4", "--at", "16384"], "arguments", "name a key, a shard, or a slot from 1 to 16383: there the new shard begins")])
def test_a_place_where_nothing_can_be_split(four, words, code, sentence):
    shown = tutti(four, "split", *words)
    assert (shown.returncode, shown.stdout, shown.stderr) == (REFUSED, "", f"tutti split: {sentence}\n")
    shown = tutti(four, "split", *words, "--json")
    assert shown.returncode == REFUSED and json.loads(shown.stdout) == {"error": sentence, "code": code}
    assert [shard["id"] for shard in json.loads(tutti(four, "shards", "--json").stdout)["shards"]] == [1, 2, 3, 4]


@pytest.mark.parametrize("arguments, code, part", [
    ({}, "arguments", "name a key"), ({"slot": -1}, "arguments", "name a key"), ({"slot": 1.5}, "arguments", "name a key"),
    ({"slot": "5"}, "arguments", "name a key"), ({"shard": 0}, "unknown", "no shard 0"), ({"shard": -1}, "unknown", "no shard -1"),
    ({"shard": 1e300}, "unknown", "there is no shard"), ({"shard": "1"}, "unknown", "no shard 0"), ({"slot": 0}, "state", "begins at slot 0"),
    ({"key": "{}"}, "arguments", "slot 15257 is none"), ({"new_shard": 0}, "arguments", "new_shard"),
    ({"new_shard": "x"}, "arguments", "new_shard"), ({"new_shard": 1 << 32}, "arguments", "new_shard")])
def test_what_a_program_may_say_wrong(four, arguments, code, part):
    if "key" in arguments:
        arguments = arguments | {"shard": 1}
    status, answer = post(four, "split", arguments)
    assert answer["code"] == code and part in answer["error"]
    assert status == {"arguments": 400, "unknown": 404, "state": 409}[code]


def test_looking_for_a_child(four):
    status, answer = post(four, "split", {"new_shard": 3})
    assert (status, answer["is_done"], answer["shard"], answer["slot"]) == (200, True, 2, 8192)
    assert answer["text"] == "Shard 2 has slots 4096 to 8191 now, shard 3 has slots 8192 to 12287."
    status, answer = post(four, "split", {"new_shard": 9})
    assert (status, answer["is_done"], answer["text"]) == (200, False, "Shard 9 is not there yet.") and "shard" not in answer
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(four.data / "control"))
    connection.sendall(b"GET /v1/split?shard=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert connection.recv(64).startswith(b"HTTP/1.1 405")
    connection.close()


def test_no_more_shards_than_there_are_slots(make_node):
    node = make_node("--shards", "16384").start()

    def is_refused_for_that():
        """Not before the node has told the cluster what its software knows."""
        shown = tutti(node, "split", "--shard", "1")
        assert shown.returncode == REFUSED and shown.stdout == ""
        return "shard 1 has slot 0 only, and a slot cannot be split" in shown.stderr
    wait_for(is_refused_for_that, "the refusal")
    assert json.loads(tutti(node, "split", "--shard", "1", "--json").stdout)["code"] == "state"


def test_a_node_stops_while_somebody_waits(make_node):
    node = make_node().start()
    waiting = threading.Thread(target=lambda: pytest.raises((OSError, http.client.HTTPException), post, node, "split",
                                                            {"new_shard": 9, "wait": True}))
    waiting.start()
    time.sleep(0.5)
    assert waiting.is_alive() and node.stop() == 0, node.log()[-2000:]
    waiting.join(10)
    assert not waiting.is_alive()


def test_waiting_ends_by_itself(four):
    begin = time.monotonic()
    status, answer = post(four, "split", {"new_shard": 9, "wait": True})
    assert status == 200 and not answer["is_done"] and 9 < time.monotonic() - begin < 20 and answer["took_ms"] >= 10000


def test_a_number_alone_is_not_the_split(make_node):
    """Whoever waits for a shard with the slot that it was to have is not told of another one with its number."""
    node = make_node().start()
    wait_for(lambda: tutti(node, "split", "--shard", "1", "--at", "1000").returncode == 0, "it has said what its software knows")
    assert post(node, "split", {"new_shard": 2, "shard": 1, "slot": 1000, "wait": True})[1]["is_done"]
    status, answer = post(node, "split", {"new_shard": 2, "shard": 1, "slot": 999, "wait": True})
    assert (status, answer["code"]) == (409, "state")
    assert "shard 2 was to begin at slot 999, but has slots 1000 to 16383: its number was given twice" in answer["error"]
    # The shard that it was split off is named, not the one that came in between.
    assert tutti(node, "split", "--shard", "1", "--at", "500").returncode == 0
    answer = post(node, "split", {"new_shard": 2, "shard": 1, "slot": 1000})[1]
    assert answer["shard"] == 1 and answer["text"] == "Shard 1 has slots 0 to 499 now, shard 2 has slots 1000 to 16383."
