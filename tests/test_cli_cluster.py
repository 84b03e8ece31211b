# SPDX-License-Identifier: Apache-2.0
"""The commands about a cluster, against a control socket that answers as docs/formats/control.md says."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import termios
import time

import pytest

from fake_control import FakeControl
from harness import BINARY

REFUSED, USAGE, NO_ANSWER = 1, 2, 5
READS = ["nodes", "shards", "why", "audit", "top"]
WORDS = {"drain": ["2"], "remove": ["2"], "transfer": ["7", "3"], "split": ["k"], "replicas": ["3"]}
COMMANDS = READS + ["token"] + list(WORDS)


def node(number, **changes):
    return {"id": number, "self": number == 1, "state": "active", "health": "alive", "peer": f"10.0.0.{number}:7380",
            "redis": f"10.0.0.{number}:6379", "admin": f"10.0.0.{number}:7379", "zone": "abc"[number % 3],
            "software": "0.2.0", "uptime_s": 86400, "shards": 48, "leaders": 16, "used_bytes": 12 << 30,
            "capacity_bytes": 100 << 30, "free_bytes": 88 << 30, "memory_bytes": 412 << 20, "reads_per_s": 4100,
            "writes_per_s": 1700.5, "read_p99_us": 820, "write_p99_us": 3900, "lag_ms": 0,
            "processor_permille": 310} | changes


SILENT = {name: None for name in ("reads_per_s", "writes_per_s", "read_p99_us", "write_p99_us", "lag_ms", "used_bytes",
                                  "free_bytes", "memory_bytes")} | {"no_figures": "it is not connected"}

NODES = {"well": False, "verdict": "Node 3 is dead; its replicas are being made anew.", "nodes": [
    node(1), node(2, state="draining", shards=7, leaders=0, lag_ms=220),
    node(3, health="dead", silent_ms=95000, zone="", **SILENT),
    node(14, health="suspect", silent_ms=1200, reads_per_s=123456, writes_per_s=999, write_p99_us=1250000)]}

NODES_TEXT = """\
Node 3 is dead; its replicas are being made anew.

Node  State            Zone  Shards  Leads  Reads      p99  Writes      p99    Lag   Memory  Disk      Free  Peer
  1*  alive            b         48     16   4.1k  0.82 ms    1.7k  3.90 ms  0.0 s  412 MiB   12%  88.0 GiB  10.0.0.1:7380
  2   alive, draining  c          7      0   4.1k  0.82 ms    1.7k  3.90 ms  0.2 s  412 MiB   12%  88.0 GiB  10.0.0.2:7380
  3   dead 95 s        -         48     16      -        -       -        -      -        -     -         -  10.0.0.3:7380
 14   suspect 1.2 s    c         48     16   123k  0.82 ms     999   1.25 s  0.0 s  412 MiB   12%  88.0 GiB  10.0.0.14:7380
No figures of node 3: it is not connected.
"""

NODES_TEXT_80 = """\
Node 3 is dead; its replicas are being made anew.

Node  State            Leads  Reads      p99  Writes      p99    Lag  Disk
  1*  alive               16   4.1k  0.82 ms    1.7k  3.90 ms  0.0 s   12%
  2   alive, draining      0   4.1k  0.82 ms    1.7k  3.90 ms  0.2 s   12%
  3   dead 95 s           16      -        -       -        -      -     -
 14   suspect 1.2 s       16   123k  0.82 ms     999   1.25 s  0.0 s   12%
No figures of node 3: it is not connected.
No room for: Zone, Shards, Memory, Free, Peer
"""

SHARDS = {"well": False, "verdict": "1 of 3 shards has no leader.", "shards": [
    {"id": 1, "first": "", "last": "slot 5461", "leader": 1, "health": "healthy", "is_moving": True, "size_bytes": 268435456,
     "keys": 1048576, "reads_per_s": 12300, "writes_per_s": 5100, "replicas": [
         {"node": 1, "role": "voter", "lag_entries": 0, "state": "ok"},
         {"node": 2, "role": "voter", "lag_entries": 3, "state": "ok"},
         {"node": 4, "role": "learner", "lag_entries": 80300, "lag_ms": 12400, "state": "snapshot"}]},
    {"id": 2, "first": "slot 5461", "last": "slot 10922", "leader": 2, "health": "under_replicated", "is_moving": False,
     "size_bytes": 1023, "keys": 0, "reads_per_s": 0, "writes_per_s": 0, "replicas": [
         {"node": 2, "role": "voter", "lag_entries": 0, "state": "ok"},
         {"node": 3, "role": "voter", "state": "unreachable"},
         {"node": 1, "role": "voter", "lag_entries": 12, "state": "behind"}]},
    {"id": 17, "first": "slot 10922", "last": "", "leader": 0, "health": "unavailable", "size_bytes": None, "keys": None,
     "no_figures": "no leader is known", "replicas": []}]}

SHARDS_TEXT = """\
1 of 3 shards has no leader.

Shard  Health            Replicas     Size  Keys  Reads  Writes           Lag  Range
    1  healthy, moving   1* 2 4~   256 MiB  1.0M  12.3k    5.1k  80.3k (12 s)  (first) .. slot 5461
    2  under replicated  2* 3! 1+   1023 B     0      0       0            12  slot 5461 .. slot 10922
   17  unavailable       -               -     -      -       -             -  slot 10922 .. (last)
No figures of shard 17: no leader is known.
"""

WHY = {"well": False, "verdict": "2 shards are not as they should be.", "shards": [
    {"id": 7, "health": "under replicated", "reasons": ["node 3 is dead since 95 s", "there is no fourth node"],
     "next": "it gets a third replica when a node joins"},
    {"id": 8, "health": "unavailable", "reasons": ["nodes 2 and 3 do not answer"], "next": ""}],
    "balance": ["node 1 leads 40 of 48 shards: leaders move in the next minute"]}

WHY_TEXT = """\
2 shards are not as they should be.

Shard 7: under replicated
  because node 3 is dead since 95 s
  because there is no fourth node
  next: it gets a third replica when a node joins

Shard 8: unavailable
  because nodes 2 and 3 do not answer

Balance
  node 1 leads 40 of 48 shards: leaders move in the next minute
"""

AUDIT = {"records": [
    {"number": 1, "first_ms": 1700000000000, "last_ms": 1700000000000, "count": 1, "kind": "bootstrap", "node": 1,
     "text": "cluster 0123"},
    {"number": 2, "first_ms": 1700000060000, "last_ms": 1700000099000, "count": 5, "kind": "join-refused", "node": 0,
     "text": "the token has expired"}]}

AUDIT_TEXT = """\
Number  Time                 Kind          Node  What
     1  2023-11-14 22:13:20  bootstrap        1  cluster 0123
     2  2023-11-14 22:14:20  join-refused     -  the token has expired (5 times, until 2023-11-14 22:14:59)
"""

STATUS = {"well": True, "verdict": "Well: every shard has 3 replicas.", "problems": [],
          "cluster": "0123456789abcdef0123456789abcdef", "node": 1, "feature": 1, "replicas": 3,
          "nodes": {"active": 4, "draining": 0, "drained": 0, "dead": 0},
          "shards": {"count": 48, "healthy": 48, "under_replicated": 0, "unavailable": 0},
          "load": {"reads_per_s": 12345, "writes_per_s": 5100, "read_p50_us": 210, "read_p99_us": 1200,
                   "write_p50_us": 1100, "write_p99_us": 12000},
          "moves": [{"shard": 7, "kind": "add", "source": 1, "target": 4, "done_bytes": 115343360,
                     "total_bytes": 268435456, "age_ms": 12500},
                    {"shard": 8, "kind": "transfer", "source": 1, "target": 2, "age_ms": 20},
                    {"shard": 9, "kind": "remove", "source": 3, "target": 0, "age_ms": 200000},
                    {"shard": 10, "kind": "split", "source": 0, "target": 0, "age_ms": 0}]}

TOP_TEXT = """\
tutti  cluster 01234567, 4 active nodes, 48 shards, 3 replicas
Well: every shard has 3 replicas.
Reads     12.3k/s  p50  0.21 ms  p99  1.20 ms
Writes     5.1k/s  p50  1.10 ms  p99  12.0 ms

Node  State  Zone  Shards  Leads  Reads      p99  Writes      p99    Lag   Memory  Disk      Free  Peer
  1*  alive  b         48     16   4.1k  0.82 ms    1.7k  3.90 ms  0.0 s  412 MiB   12%  88.0 GiB  10.0.0.1:7380
  2   alive  c         48     16   4.1k  0.82 ms    1.7k  3.90 ms  0.0 s  412 MiB   12%  88.0 GiB  10.0.0.2:7380

Moves
shard 7: a replica for node 4 from node 1, 43% of 256 MiB, 12 s
shard 8: node 2 leads instead of node 1, 0.0 s
shard 9: the replica of node 3 goes, 3 min
shard 10: split, 0.0 s
"""


@pytest.fixture
def control(tmp_path):
    """control(answers): a control socket in tmp_path."""
    made = []

    def make(**answers):
        made.append(FakeControl(tmp_path, answers))
        return made[-1]

    yield make
    for each in made:
        each.close()


def tutti(data, *words, environment=None, **options):
    return subprocess.run([str(BINARY), words[0], "--data", str(data), *words[1:]], capture_output=True, text=True,
                          timeout=60, check=False, env={**os.environ, "TZ": "UTC", **(environment or {})}, **options)


# ---- What people see


@pytest.mark.parametrize("verb, answer, text, well", [
    ("nodes", NODES, NODES_TEXT, False), ("shards", SHARDS, SHARDS_TEXT, False), ("why", WHY, WHY_TEXT, False),
    ("audit", AUDIT, AUDIT_TEXT, True)], ids=["nodes", "shards", "why", "audit"])
def test_what_shows_the_cluster(control, tmp_path, verb, answer, text, well):
    control(**{verb: answer})
    shown = tutti(tmp_path, verb)
    assert shown.stdout == text
    assert shown.stderr == ""
    assert shown.returncode == (0 if well else REFUSED)
    control_json = tutti(tmp_path, verb, "--json")
    assert json.loads(control_json.stdout) == answer
    assert control_json.returncode == shown.returncode


def test_top_without_a_terminal(control, tmp_path):
    control(status=STATUS, nodes={"nodes": [node(1), node(2)]})
    shown = tutti(tmp_path, "top")
    assert shown.stdout == TOP_TEXT and shown.returncode == 0
    both = json.loads(tutti(tmp_path, "top", "--json").stdout)
    assert both["status"] == STATUS and both["nodes"]["nodes"][1]["id"] == 2


def test_top_says_what_is_wrong(control, tmp_path):
    problems = ["node 3 does not answer", "shard 7 has no leader"]
    control(status=STATUS | {"well": False, "verdict": "Not well.", "problems": problems, "moves": []},
            nodes={"nodes": [node(1)]})
    shown = tutti(tmp_path, "top")
    assert shown.returncode == REFUSED
    assert shown.stdout.splitlines()[1:4] == ["Not well.", "- node 3 does not answer", "- shard 7 has no leader"]
    assert shown.stdout.endswith("\nNothing is being moved.\n")


def test_an_answer_with_nothing_in_it(control, tmp_path):
    control(**{verb: {} for verb in ("nodes", "shards", "why", "audit", "status", "token", "drain")})
    for verb in READS:
        assert tutti(tmp_path, verb).returncode == 0
    assert tutti(tmp_path, "drain", "2").stdout == "Done.\n"
    assert tutti(tmp_path, "token").stdout == "?\n"


def test_what_a_node_says_does_not_reach_into_the_terminal(control, tmp_path):
    evil = "\x1b]0;gotcha\x07\x1b[2J"
    control(nodes={"verdict": evil, "nodes": [node(1, zone=evil, peer=evil)]}, drain={"text": evil},
            remove=(409, {"error": evil, "code": "state"}), why={"verdict": evil, "balance": [evil]})
    for shown in (tutti(tmp_path, "nodes"), tutti(tmp_path, "drain", "1"), tutti(tmp_path, "remove", "1"),
                  tutti(tmp_path, "why")):
        assert "\x1b" not in shown.stdout + shown.stderr and "\x07" not in shown.stdout + shown.stderr
        assert "gotcha" in shown.stdout + shown.stderr


# ---- What is asked of the node


@pytest.mark.parametrize("words, verb, arguments", [
    (["nodes"], "nodes", {}), (["nodes", "--all"], "nodes", {"all": True}), (["shards"], "shards", {}),
    (["shards", "--node", "3"], "shards", {"node": 3}), (["why"], "why", {}), (["why", "7"], "why", {"shard": 7}),
    (["audit"], "audit", {}), (["audit", "--count", "5"], "audit", {"count": 5}),
    (["token"], "token", {"ttl_s": 3600, "uses": 1}), (["token", "--ttl", "60", "--uses", "4"], "token", {"ttl_s": 60, "uses": 4}),
    (["drain", "2"], "drain", {"node": 2}), (["drain", "2", "--cancel"], "drain", {"node": 2, "cancel": True}),
    (["remove", "2"], "remove", {"node": 2}), (["remove", "--force", "2"], "remove", {"node": 2, "force": True}),
    (["transfer", "7", "3"], "transfer", {"shard": 7, "node": 3}), (["split", "user:1000"], "split", {"slot": 1649, "wait": True}),
    (["split", "{user:1000}.x", "--no-wait"], "split", {"slot": 1649}), (["split", b"\xff\xfe"], "split", {"slot": 3374, "wait": True}),
    (["split", "--shard", "7"], "split", {"shard": 7, "wait": True}),
    (["split", "--shard", "7", "--at", "9000"], "split", {"shard": 7, "slot": 9000, "wait": True}),
    (["replicas", "5"], "replicas", {"replicas": 5})])
def test_what_is_asked(control, tmp_path, words, verb, arguments):
    fake = control(**{verb: {"text": "As you wish."}})
    shown = tutti(tmp_path, *words)
    assert shown.returncode == 0 and fake.asked == [(verb, arguments)]
    if words[0] not in READS + ["token"]:
        assert shown.stdout == "As you wish.\n"


def test_a_token_can_be_put_into_a_variable(control, tmp_path):
    control(token={"token": "tutti1-abc", "expires_ms": 1700000000000, "uses": 1, "peer": "10.0.0.1:7380"})
    shown = tutti(tmp_path, "token")
    assert shown.stdout == "tutti1-abc\n"
    assert shown.stderr == ("Good for 60 min (until 2023-11-14 22:13:20), and for 1 node. On the new machine:\n"
                            "  tutti start --peer ADDR:PORT --join 10.0.0.1:7380 --token TOKEN\n")


def test_drain_waits_when_told_to(control, tmp_path):
    def nodes(state, shards):
        return {"nodes": [node(1), node(2, state=state, shards=shards)]}

    fake = control(drain={"text": "Node 2 is draining: 12 shards are left."},
                   nodes=[nodes("draining", 12), nodes("draining", 12), nodes("draining", 3), nodes("drained", 0)])
    shown = tutti(tmp_path, "drain", "2", "--wait")
    assert shown.returncode == 0
    assert shown.stdout == "Node 2 is draining: 12 shards are left.\n"
    assert shown.stderr == "12 shards left\n3 shards left\nNode 2 is drained.\n"
    assert [verb for verb, _ in fake.asked] == ["drain"] + ["nodes"] * 4


def test_drain_that_is_refused_later_has_one_answer_for_programs(control, tmp_path):
    control(drain={"text": "Draining."}, nodes=[{"nodes": [node(2, state="draining", shards=3)]},
                                                (503, {"error": "the node is stopping", "code": "unavailable"})])
    shown = tutti(tmp_path, "drain", "2", "--wait", "--json")
    assert shown.returncode == REFUSED and json.loads(shown.stdout) == {"text": "Draining."}
    assert shown.stderr == "3 shards left\ntutti drain: the node is stopping\n"


def test_drain_that_is_called_off_meanwhile(control, tmp_path):
    control(drain={"text": "Draining."}, nodes={"nodes": [node(2)]})
    shown = tutti(tmp_path, "drain", "2", "--wait")
    assert shown.returncode == REFUSED and "not draining any more" in shown.stderr


def test_split_asks_until_it_is_done(control, tmp_path):
    planned = {"text": "Shard 2 will get slots 8192 to 16383 of shard 1.", "shard": 1, "new_shard": 2, "is_done": False}
    waiting = {"text": "Shard 2 is not there yet.", "new_shard": 2, "is_done": False}
    done = {"text": "Shard 1 has slots 0 to 8191 now, shard 2 has slots 8192 to 16383.", "new_shard": 2, "is_done": True}
    fake = control(split=[planned, waiting, done])
    shown = tutti(tmp_path, "split", "--shard", "1")
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, done["text"] + "\n", "")
    assert fake.asked == [("split", {"shard": 1, "wait": True})] + [("split", {"new_shard": 2, "wait": True})] * 2
    fake.answers["split"] = [planned, done]
    shown = tutti(tmp_path, "split", "--shard", "1", "--json")
    assert json.loads(shown.stdout) == done
    fake.answers["split"] = planned
    shown = tutti(tmp_path, "split", "--shard", "1", "--no-wait")
    assert (shown.returncode, shown.stdout) == (0, planned["text"] + "\n")


def test_split_that_is_refused_later(control, tmp_path):
    control(split=[{"text": "Planned.", "new_shard": 2, "is_done": False}, (503, {"error": "still starting", "code": "unavailable"})])
    shown = tutti(tmp_path, "split", "k")
    assert shown.returncode == REFUSED and shown.stderr == "tutti split: still starting\n" and shown.stdout == ""


def test_planned_splits_are_shown(control, tmp_path):
    planned = [{"shard": 3, "parent": 1, "first_slot": 4096, "last_slot": 8191, "age_ms": 12000},
               {"shard": 4, "parent": 2, "first_slot": 16383, "last_slot": 16383, "age_ms": 100}]
    why = "shard 3 was to get slots 4096 to 8191 of shard 1 12 s ago: it has no leader"
    control(shards={"shards": [], "planned": planned}, why={"verdict": "Well.", "shards": [], "splits": [why]})
    assert tutti(tmp_path, "shards").stdout.endswith(
        "\nShard 3 will get slots 4096 to 8191 of shard 1 (decided 12 s ago).\n"
        "Shard 4 will get slot 16383 of shard 2 (decided 0.1 s ago).\n")
    assert tutti(tmp_path, "why").stdout == f"Well.\n\nSplits\n  {why}\n"


# ---- On a terminal


def run_on_terminal(command, keys, size=(24, 80), until=None, timeout=20, behind=None, happens=None):
    """(exit code, what was written) of a command on a terminal; `keys` are typed once `until` was seen, and what `happens` does so once
    `behind` was."""
    process, terminal = pty.fork()
    if process == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
        os.execvpe(command[0], command, {**os.environ, "TERM": "xterm", "TZ": "UTC", "NO_COLOR": ""})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    written = b""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 0.1)
        if ready:
            try:
                piece = os.read(terminal, 65536)
            except OSError:
                break
            if not piece:
                break
            written += piece
        if happens is not None and behind in written:
            happens()
            happens = None
        if keys and (until is None or until in written):
            os.write(terminal, keys)
            keys = b""
    else:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), written.decode()


# ---- Top on a terminal


def screens_of(written):
    """What each drawing left on the screen, without colours; and the rest of the codes."""
    pictures = written.split("\x1b[H")[1:]
    clean = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", picture).replace("\r", "").split("\n") for picture in pictures]
    return clean


@pytest.mark.parametrize("size", [(24, 80), (10, 40), (50, 200)])
def test_top_fits_the_terminal(control, tmp_path, size):
    many = {"nodes": [node(number, zone="a-zone-with-a-long-name") for number in range(1, 31)]}
    busy = STATUS | {"moves": STATUS["moves"] * 10, "problems": [f"problem {i}" for i in range(20)],
                     "verdict": "A verdict that is longer than the terminal is wide. " * 5}
    control(status=busy, nodes=many)
    code, written = run_on_terminal([str(BINARY), "top", "--data", str(tmp_path)], b"q", size=size, until=b"q quits")
    assert code == 0
    assert written.startswith("\x1b[?1049h\x1b[?25l") and written.endswith("\x1b[?25h\x1b[?1049l")
    for lines in screens_of(written):
        assert len(lines) <= size[0]
        assert all(len(line) <= size[1] for line in lines)
    last = screens_of(written)[-1]
    assert last[0].startswith("tutti  cluster 01234567"[:size[1]])
    assert last[-1] == "q quits"
    if size[0] >= 24:
        assert any("more" in line for line in last) and any(line.startswith("Moves") for line in last)
        assert sum(line.lstrip()[:1].isdigit() for line in last) >= 5


@pytest.mark.parametrize("width, left_out", [
    (80, "Zone, Shards, Memory, Free, Peer"), (100, "Zone, Free, Peer"), (120, "Zone"), (130, None)])
def test_tables_fit_the_terminal(control, tmp_path, width, left_out):
    """What is least important is left out, and named; a line is never broken."""
    control(nodes=NODES, shards=SHARDS)
    for verb in ("nodes", "shards"):
        _, written = run_on_terminal([str(BINARY), verb, "--data", str(tmp_path)], b"", size=(24, width))
        lines = re.sub(r"\x1b\[[0-9;]*m", "", written).replace("\r", "").splitlines()
        assert max(map(len, lines)) <= width, lines
        assert len(lines) == len((NODES_TEXT if verb == "nodes" else SHARDS_TEXT).splitlines()) + ("No room" in written)
        if verb == "nodes":
            assert lines[-1] == (f"No room for: {left_out}" if left_out else "No figures of node 3: it is not connected.")


def test_top_does_not_say_twice_what_the_verdict_says(control, tmp_path):
    control(status=STATUS | {"well": False, "verdict": "bad", "problems": ["bad", "worse"]}, nodes=NODES)
    shown = tutti(tmp_path, "top").stdout.splitlines()
    assert shown[1:4] == ["bad", "- worse", "- No figures of node 3: it is not connected."]


def test_top_goes_on_when_the_node_comes_back(control, tmp_path):
    code, written = run_on_terminal([str(BINARY), "top", "--data", str(tmp_path)], b"q", until=b"every shard has 3 replicas",
                                    behind=b"Trying again", happens=lambda: control(status=STATUS, nodes={"nodes": [node(1)]}))
    assert code == 0 and "no node runs on" in written and "Trying again" in written


def test_top_ends_with_ctrl_c(control, tmp_path):
    control(status=STATUS, nodes={"nodes": [node(1)]})
    code, written = run_on_terminal([str(BINARY), "top", "--data", str(tmp_path)], b"\x03", until=b"q quits")
    assert code == 0 and written.endswith("\x1b[?25h\x1b[?1049l")


def test_colours_on_a_terminal_only(control, tmp_path):
    control(nodes=NODES)
    _, written = run_on_terminal([str(BINARY), "nodes", "--data", str(tmp_path)], b"")
    assert written.startswith("\x1b[1;31mNode 3 is dead") and "\x1b[1;32malive" in written
    assert re.sub(r"\x1b\[[0-9;]*m", "", written).replace("\r\n", "\n") == NODES_TEXT_80
    assert "\x1b" not in tutti(tmp_path, "nodes").stdout


# ---- What goes wrong


@pytest.mark.parametrize("command", COMMANDS)
def test_no_node(tmp_path, command):
    words = [command, *WORDS.get(command, [])]
    shown = tutti(tmp_path / "nothing", *words)
    assert shown.returncode == NO_ANSWER and shown.stdout == ""
    assert shown.stderr == (f"tutti {command}: there is no directory {tmp_path}/nothing; name that of a running node with "
                            "--data DIR (or TUTTI_DATA)\n")
    shown = tutti(tmp_path, *words)
    assert shown.returncode == NO_ANSWER and shown.stdout == ""
    assert "no node runs on" in shown.stderr and f"tutti start --data {tmp_path}" in shown.stderr


def test_what_a_killed_node_left(tmp_path):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "control"))
    shown = tutti(tmp_path, "nodes")
    assert shown.returncode == NO_ANSWER and "any more" in shown.stderr and "tutti start" in shown.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_no_permission(control, tmp_path):
    control(nodes=NODES)
    os.chmod(tmp_path / "control", 0o600)
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.owner() == "root" and folder.stat().st_mode & 0o005 != 0o005 and str(folder).startswith("/tmp/"):
            os.chmod(folder, 0o755)
    stranger = subprocess.run([str(BINARY), "nodes", "--data", str(tmp_path)], capture_output=True, text=True, check=False,
                              timeout=20, user=65534, cwd="/")
    if "Permission denied" in stranger.stderr and "tutti" not in stranger.stderr:
        pytest.skip("the binary cannot be run by others")
    assert stranger.returncode == NO_ANSWER
    assert "no permission" in stranger.stderr and "user who started it" in stranger.stderr


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "top"])
def test_a_refusal_says_why(control, tmp_path, command):
    control(**{command: (409, {"error": "node 2 is the only active one", "code": "state"})})
    words = [command, *WORDS.get(command, [])]
    shown = tutti(tmp_path, *words)
    assert (shown.returncode, shown.stdout) == (REFUSED, "")
    assert shown.stderr == f"tutti {command}: node 2 is the only active one\n"
    shown = tutti(tmp_path, *words, "--json")
    assert shown.returncode == REFUSED and json.loads(shown.stdout)["code"] == "state"


def test_top_and_a_node_that_refuses(control, tmp_path):
    control(status=(503, {"error": "still starting", "code": "unavailable"}))
    shown = tutti(tmp_path, "top")
    assert shown.returncode == NO_ANSWER and shown.stderr == "tutti top: still starting\n"


def test_a_timeout_of_the_node_is_no_answer(control, tmp_path):
    control(drain=(504, {"error": "there was no answer in time", "code": "timeout"}))
    assert tutti(tmp_path, "drain", "2").returncode == NO_ANSWER


@pytest.mark.parametrize("answer", [b"", b"hello", b"[1]", b'{"a":', b"\xff"])
def test_something_else_answers(control, tmp_path, answer):
    control(nodes=answer)
    shown = tutti(tmp_path, "nodes")
    assert shown.returncode == NO_ANSWER and "is not a tutti" in shown.stderr


def test_a_path_that_is_too_long(tmp_path):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    shown = tutti(deep, "nodes")
    assert shown.returncode == NO_ANSWER and "a socket's may have 107" in shown.stderr


@pytest.mark.parametrize("words, part", [
    (["drain"], "NODE is missing"), (["drain", "x"], 'not the number of a node'), (["drain", "0"], "not the number of a node"),
    (["drain", "1", "2"], '"2" is too much'), (["drain", "1", "--force"], 'no option "--force"'), (["nodes", "1"], "too much"),
    (["transfer", "1"], "SHARD NODE is missing"), (["transfer", "x", "1"], "number of a shard"),
    (["transfer", "1", "-"], "number of a node"), (["replicas", "2"], "1, 3 or 5"), (["token", "--ttl"], "--ttl needs a number"),
    (["token", "--ttl", "0"], "--ttl needs a number"), (["token", "--uses", "x"], "--uses needs a number"),
    (["why", "x"], "number of a shard"), (["split"], "KEY is missing, or --shard N"), (["split", "k", "--shard", "1"], "name one"),
    (["split", "k", "--at", "5"], "--at is for --shard"), (["split", "--shard", "x"], "--shard needs a number"),
    (["split", "--shard", "1", "--at", "0"], "--at needs a number"), (["split", "a", "b"], "too much"), (["top", "--interval", "fast"], "needs a number")])
def test_wrong_usage(control, tmp_path, words, part):
    fake = control()
    shown = tutti(tmp_path, *words)
    assert shown.returncode == USAGE and part in shown.stderr and shown.stdout == ""
    assert fake.asked == []


@pytest.mark.parametrize("command", COMMANDS + ["recover"])
def test_help(command):
    shown = subprocess.run([str(BINARY), command, "--help"], capture_output=True, text=True, timeout=20, check=True).stdout
    assert shown.startswith(f"Usage: tutti {command}") and "--data DIR" in shown and "Exit codes" in shown
    assert shown == subprocess.run([str(BINARY), "help", command], capture_output=True, text=True, timeout=20,
                                   check=True).stdout
    assert max(map(len, shown.splitlines())) <= 100
    overview = subprocess.run([str(BINARY), "help"], capture_output=True, text=True, timeout=20, check=True).stdout
    assert re.search(rf"^  tutti {command}\b", overview, re.MULTILINE)


def test_the_directory_from_the_environment(control, tmp_path):
    control(nodes=NODES)
    shown = subprocess.run([str(BINARY), "nodes"], capture_output=True, text=True, timeout=20, check=False,
                           env={**os.environ, "TUTTI_DATA": str(tmp_path)})
    assert shown.stdout == NODES_TEXT
