# SPDX-License-Identifier: Apache-2.0
"""What an operator sees: starting and why it fails, settings, status, metrics, logs, stopping."""
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
import redis

from harness import BINARY, ROOT, START_SECONDS_MAX, Node

STOP_SECONDS = 5
IDLE_RESIDENT_MIB = 40
OPTIONS = {"data": "DIR", "redis": "ADDR:PORT", "admin": "ADDR:PORT", "peer": "ADDR:PORT", "advertise": "HOST:PORT",
           "zone": "NAME", "join": "HOST:PORT", "token": "TOKEN", "replicas": "1|3|5", "shards": "N", "reactors": "N", "memory": "SIZE",
           "requirepass": "PASSWORD", "flush": "always|everysec", "pipeline-order": "shard|connection", "split-size": "SIZE", "split-load": "N", "log-format": "logfmt|json",
           "log-level": "debug|info|warn|error", "config": "FILE"}


def tutti(*words, environment=None, timeout=20):
    return subprocess.run([str(BINARY), *words], capture_output=True, text=True, timeout=timeout, check=False,
                          env={**os.environ, **(environment or {})})


def status(node, *words, environment=None):
    return tutti("status", "--admin", f"127.0.0.1:{node.admin_port}", *words, environment=environment)


def fails_to_start(node, exit_code=1):
    """The last line of its log, which must be the reason."""
    node.launch()
    assert node.ended() == exit_code
    return node.log().strip().splitlines()[-1]


# ---- Starting, and why it fails


@pytest.mark.parametrize("flag", ["redis", "admin"])
def test_a_taken_port_is_named_with_its_flag(make_node, flag):
    node = make_node()
    port = getattr(node, f"{flag}_port")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        message = fails_to_start(node)
    assert "level=error" in message and f"127.0.0.1:{port}" in message and f"--{flag}" in message
    node.launch()  # Nothing of the attempt stands in the way of the next.
    deadline = time.monotonic() + START_SECONDS_MAX
    while not node.answers():
        assert node.process.poll() is None and time.monotonic() < deadline, node.log()
        time.sleep(0.01)


def test_a_file_in_place_of_the_directory(make_node):
    node = make_node()
    node.data.write_text("not a directory")
    message = fails_to_start(node)
    assert str(node.data) in message and "directory" in message.lower()
    assert node.data.read_text() == "not a directory"


@pytest.fixture
def mounted(tmp_path):
    """mounted(options): a tmpfs of its own."""
    points = []

    def mount(options):
        point = tmp_path / f"mount{len(points)}"
        point.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(point)], check=False).returncode != 0:
            pytest.skip("mounting needs root")
        points.append(point)
        return point

    yield mount
    for point in points:
        subprocess.run(["umount", "-l", str(point)], check=True)


def test_no_permission_to_write(mounted):
    point = mounted("size=8m,ro")
    node = Node(point / "data")
    node.log_path = pathlib.Path(str(point) + ".log")
    message = fails_to_start(node)
    assert str(point / "data") in message and "Read-only file system" in message


def test_a_full_disk_at_the_start(mounted):
    point = mounted("size=4m")
    (point / "ballast").write_bytes(bytes((4 << 20) - (64 << 10)))
    node = Node(point / "data")
    node.log_path = pathlib.Path(str(point) + ".log")
    message = fails_to_start(node)
    assert "No space left on device" in message or "space" in message
    (point / "ballast").unlink()


@pytest.mark.parametrize("flag", ["--redis", "--admin"])
def test_an_address_beyond_loopback_needs_a_password(tmp_path, flag):
    refused = tutti("start", "--data", str(tmp_path / "data"), flag, "0.0.0.0:0")
    assert refused.returncode == 2
    assert flag in refused.stderr and "--requirepass" in refused.stderr and "127.0.0.1" in refused.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("words, part", [
    (["--reactors", "0"], "1"), (["--reactors", "many"], "--reactors"), (["--memory", "1mb"], "64"),
    (["--flush", "never"], "always"), (["--redis", "6379"], "ADDRESS:PORT"), (["--no-such-option", "1"], "no-such-option"),
    (["--config", "/no/such/file"], "/no/such/file"), (["--data"], "--data"), (["--join", "a:1"], "tutti token"),
    (["--join", "a:1", "--token", "x"], "not a join token"), (["--peer", "0.0.0.0:7380"], "--advertise"),
    (["--replicas", "2"], "1, 3 or 5"), (["--zone", "a b"], "without blanks")])
def test_wrong_settings_are_refused_with_what_is_right(words, part):
    answer = tutti("start", *words)
    assert answer.returncode == 2
    assert part in answer.stderr and "tutti start --help" in answer.stderr and answer.stdout == ""


def test_flags_beat_variables_beat_the_file_beat_defaults(make_node, tmp_path):
    file = tmp_path / "tutti.conf"
    file.write_text("memory = 100mb\nreactors = 3\nflush = everysec\n")

    def settings(arguments, environment):
        node = make_node(*arguments, environment=environment)
        node.start()
        client = node.client()
        found = {name: client.config_get(name)[name] for name in ("maxmemory", "reactors", "appendfsync")}
        assert client.info("server")["config_file"] == (str(file) if "--config" in arguments or environment else "")
        assert node.stop() == 0
        return found

    assert settings([], {})["appendfsync"] == "always"
    with make_node() as node, node.socket() as connection:
        connection.sendall(b"CONFIG GET *\r\nQUIT\r\n")
        words = b"".join(iter(lambda: connection.recv(65536), b"")).split(b"\r\n")[2:-2:2]
        assert b"maxmemory" in words[::2] and len(words[::2]) == len(set(words[::2]))  # Each once.
    from_file = settings(["--config", str(file)], {})
    assert from_file == {"maxmemory": str(100 << 20), "reactors": "3", "appendfsync": "everysec"}
    mixed = settings(["--memory", "80mb"], {"TUTTI_CONFIG": str(file), "TUTTI_MEMORY": "90mb", "TUTTI_REACTORS": "2"})
    assert mixed == {"maxmemory": str(80 << 20), "reactors": "2", "appendfsync": "everysec"}


def test_help_explains_every_option():
    text = tutti("start", "--help").stdout
    for name, unit in OPTIONS.items():
        described = re.search(rf"^  --{name} {re.escape(unit)}\n((?:      .*\n)+)", text, re.MULTILINE)
        assert described, name
        assert "Default: " in described.group(1), name
        assert f"TUTTI_{name.upper().replace('-', '_')}" in described.group(1), name
    assert set(re.findall(r"^  --([a-z-]+) ", text, re.MULTILINE)) == set(OPTIONS)
    assert "Exit codes" in text


@pytest.mark.parametrize("words, exit_code", [
    (["help"], 0), (["--help"], 0), (["help", "start"], 0), (["help", "status"], 0), (["help", "check"], 0),
    (["help", "demo"], 0), (["demo", "--help"], 0), (["demo", "--wrong"], 2), (["demo", "--data"], 2),
    (["help", "commands"], 0), (["status", "--help"], 0), (["check", "--help"], 0), ([], 2),
    (["status", "--wrong"], 2), (["status", "--admin", "nowhere"], 2), (["check"], 2), (["check", "/no/such/directory"], 1)])
def test_every_command_has_help_and_exit_codes(words, exit_code):
    answer = tutti(*words)
    assert answer.returncode == exit_code
    assert answer.stdout if exit_code == 0 else answer.stdout + answer.stderr


def test_version_and_unknown_commands():
    version = tutti("version")
    assert version.returncode == 0 and re.fullmatch(r"tutti \d+\.\d+\.\d+\n", version.stdout)
    assert tutti("--version").stdout == version.stdout
    for words in (["strat"], ["help", "strat"]):
        unknown = tutti(*words)
        assert unknown.returncode == 2 and '"strat"' in unknown.stderr and "tutti help" in unknown.stderr


def test_what_is_wrong_with_the_words_of_a_command():
    assert tutti("help", "--help").stdout == tutti("help").stdout
    for words, part in ((["nodes", "--data"], "--data needs a value"), (["audit", "--count=x"], "--count needs a number above 0"),
                        (["drain", "1", "--wait=1"], "--wait takes no value"), (["status", "--admin"], "--admin needs a value")):
        answer = tutti(*words)
        assert answer.returncode == 2 and part in answer.stderr, answer
    recover = tutti("recover", "--help").stdout
    assert "a node that is stopped" in recover and "runs on this machine" not in recover


def test_values_may_stand_behind_an_equals_sign(node):
    assert tutti("audit", f"--data={node.data}", "--count=1").stdout.count("\n") == 2
    assert tutti("status", f"--admin=127.0.0.1:{node.admin_port}").stdout.startswith("well: ")


# ---- Status


def test_status_begins_with_a_verdict(node):
    text = status(node)
    assert text.returncode == 0
    assert text.stdout.startswith("well: ")
    assert "\033" not in text.stdout
    assert re.search(r"^keyspace\n  keys +0$", text.stdout, re.MULTILINE)
    said = json.loads(status(node, "--json").stdout)
    assert said["ready"] is True and said["well"] is True and said["verdict"].startswith("well: ")
    assert said["metrics"]["tutti_keyspace_keys"] == 0


def test_status_finds_the_node_by_its_directory(node, tmp_path):
    by_data = tutti("status", "--data", str(node.data))
    assert by_data.returncode == 0 and by_data.stdout.startswith("well: ")
    by_variable = tutti("status", "--json", environment={"TUTTI_DATA": str(node.data)})
    assert json.loads(by_variable.stdout)["well"] is True
    assert tutti("status", f"--data={node.data}", "--admin", "127.0.0.1:1").returncode == 2
    assert node.stop() == 0
    stopped = tutti("status", "--data", str(node.data))
    assert stopped.returncode == 1 and f"no node runs on {node.data}: its admin port was" in stopped.stderr
    assert f"tutti start --data {node.data}" in stopped.stderr
    # Another node has its admin port now: its verdict must not pass for that of this one.
    other = Node(tmp_path / "other", ["--memory", "64mb"])
    other.admin_port = node.admin_port
    with other:
        wrong = tutti("status", "--data", str(node.data))
        assert wrong.returncode == 1 and "another one answers" in wrong.stderr and wrong.stdout == ""
        assert tutti("status", "--data", str(other.data)).returncode == 0


def test_status_of_a_directory_that_is_none(tmp_path):
    nothing = tutti("status", "--data", str(tmp_path / "nothing"))
    assert nothing.returncode == 1 and f"no node ran on {tmp_path}/nothing yet" in nothing.stderr
    for content in ("", "nonsense", "nonsense 123\n", "x" * 1000):
        (tmp_path / "admin").write_text(content)
        damaged = tutti("status", "--data", str(tmp_path))
        assert damaged.returncode == 1 and damaged.stderr.startswith("tutti status: "), content


def test_check_of_a_log_without_entries(node):
    """After a clean stop the store has everything: what is left of the log are no entries, and it is said so."""
    node.client().set("a", 1)
    applied = []
    while len(applied) < 3 or len(set(applied[-3:])) > 1:  # The founder says twice who it is; that must be over.
        time.sleep(0.3)
        assert len(applied) < 100
        applied += re.findall(r'^tutti_replica_applied_index\{shard="1"\} (\d+)', node.get("/metrics")[1], re.MULTILINE)
    assert node.stop() == 0
    checked = tutti("check", str(node.data))
    assert checked.returncode == 0 and "entries 0" not in checked.stdout
    assert re.search(r"^log +no entries: all up to \d+ were released, for the store has them; term \d+$",
                     checked.stdout, re.MULTILINE), checked.stdout


def test_check_writes_nothing(node, mounted):
    """So it may look at a copy that cannot be written to, and leaves nothing in a directory that is no node's."""
    running = tutti("check", str(node.data))
    assert running.returncode == 1 and f"in use by process {node.process.pid}; stop that one first" in running.stderr
    assert node.stop() == 0
    point = mounted("size=300m")
    shutil.copytree(node.data, point / "copy", copy_function=lambda *of: subprocess.run(["cp", "--sparse=always", *of], check=True))
    (point / "other").mkdir()
    other = tutti("check", str(point / "other"))
    assert other.returncode == 1 and "is not the data directory of a node" in other.stderr
    assert not list((point / "other").iterdir())
    subprocess.run(["mount", "-o", "remount,ro", str(point)], check=True)
    checked = tutti("check", str(point / "copy"))
    assert checked.returncode == 0 and checked.stdout.endswith(" is whole.\n"), checked
    nothing = tutti("check", str(point / "nothing"))
    assert nothing.returncode == 1 and f"{point}/nothing: No such file or directory" in nothing.stderr


def empty_log(data):
    for segment in (data / "wal").iterdir():
        segment.unlink()


@pytest.mark.parametrize("harm, message", [
    (empty_log, "the log of shard 1 is gone, and with it acknowledged writes"),
    (lambda data: shutil.rmtree(data / "wal"), "/wal is gone, and with it acknowledged writes"),
    (lambda data: shutil.rmtree(data / "store"), "/store is gone, and with it acknowledged writes"),
    (lambda data: (data / "node.conf").unlink(), "/node.conf is gone, though a node ran here")])
def test_check_finds_what_a_start_refuses(node, harm, message):
    node.client().set("k", "v")
    assert node.stop() == 0
    harm(node.data)
    refused = fails_to_start(node)
    assert "from a copy" in refused, refused
    before = sorted(node.data.rglob("*"))
    checked = tutti("check", str(node.data))
    assert checked.returncode == 4 and message in checked.stdout + checked.stderr, checked
    assert before == sorted(node.data.rglob("*"))


def test_status_is_coloured_on_a_terminal_only(node):
    def on_terminal(environment):
        controller, terminal = pty.openpty()
        with subprocess.Popen([str(BINARY), "status", "--admin", f"127.0.0.1:{node.admin_port}"], stdout=terminal,
                              env={**environment, "PATH": os.environ["PATH"]}) as process:
            os.close(terminal)
            received = b""
            try:
                while chunk := os.read(controller, 65536):
                    received += chunk
            except OSError:  # The other end is closed.
                pass
            os.close(controller)
            assert process.wait() == 0
        return received

    assert on_terminal({}).startswith(b"\033[1;32mwell: ")
    assert on_terminal({"NO_COLOR": "1"}).startswith(b"well: ")


def test_status_of_the_weaker_mode(make_node):
    node = make_node("--flush", "everysec").start()
    text = status(node)
    assert text.returncode == 0 and text.stdout.startswith("flush everysec: ")
    assert "node.weaker_durability" in node.log()


def leave_space(point, size):
    """No more than that; meanwhile others may take some: spare segments of the log are written after the start."""
    with open(point / "ballast", "wb", buffering=0) as ballast:
        while (too_much := os.statvfs(point).f_bavail * os.statvfs(point).f_frsize - size) > 0:
            ballast.write(bytes(min(too_much, 1 << 20)))


def test_status_of_a_full_disk(mounted):
    point = mounted("size=512m")
    node = Node(point / "data", ["--memory", "64mb"])
    node.log_path = pathlib.Path(str(point) + ".log")
    with node:
        leave_space(point, 24 << 20)
        wait_for_verdict(node, "disk full: ")
        text = status(node)
        assert text.returncode == 1 and "Delete keys or free space" in text.stdout.splitlines()[0]
        said = json.loads(status(node, "--json").stdout)
        assert said["ready"] is True and said["well"] is False
        assert said["metrics"]["tutti_disk_full"] == 1
        assert node.get("/readyz")[0] == 200
        with pytest.raises(redis.ResponseError, match="disk is full"):
            node.client().set("k", "v")
        (point / "ballast").unlink()
        wait_for_verdict(node, "well: ")
        assert node.client().set("k", "v")
        assert node.stop() == 0


def wait_for_verdict(node, start):
    deadline = time.monotonic() + 60
    while not status(node).stdout.startswith(start):
        assert time.monotonic() < deadline, status(node).stdout
        time.sleep(0.05)


def test_status_of_nobody(make_node):
    node = make_node()
    answer = status(node)
    assert answer.returncode == 1 and answer.stdout == ""
    assert f"127.0.0.1:{node.admin_port}" in answer.stderr and "tutti start" in answer.stderr


def test_status_of_something_else():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with subprocess.Popen([str(BINARY), "status", "--admin", f"127.0.0.1:{other.getsockname()[1]}"],
                              stderr=subprocess.PIPE, text=True) as process:
            connection, _ = other.accept()
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            connection.close()
            assert process.wait(timeout=60) == 1
            assert "not a tutti" in process.stderr.read()


# ---- Metrics

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABELS = r'\{[a-z_]+="(?:[^"\\\n]|\\[\\"n])*"(?:,[a-z_]+="(?:[^"\\\n]|\\[\\"n])*")*\}'
SAMPLE = re.compile(rf"({NAME})({LABELS})? (NaN|[+-]Inf|[+-]?[0-9][0-9.eE+-]*)")


def parse_metrics(text):
    """{sample with its labels: value}; strict about what Prometheus' text format 0.0.4 demands."""
    assert text.endswith("\n")
    samples, types, current = {}, {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name = line.split(" ", 3)[2]
            assert len(line.split(" ", 3)) == 4, f"no help: {line}"
            assert name not in types, f"{name} twice"
            current = name
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current and name not in types and kind in ("counter", "gauge", "histogram"), line
            types[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match.groups()
            family = re.sub(r"_(bucket|sum|count)$", "", name) if types[current] == "histogram" else name
            assert family == current, f"{name} is not of {current}"
            assert name + (labels or "") not in samples, f"{line} twice"
            samples[name + (labels or "")] = float(value)
    for name, kind in types.items():
        assert name.startswith(("tutti_", "process_")), name
        assert (kind == "counter") == name.endswith("_total"), name
        assert not re.search(r"_(ms|us|ns|milliseconds|kb|mb|mib)(_|$)", name), f"{name}: not a base unit"
        if kind == "histogram":
            check_histogram(name, samples)
    return samples


def check_histogram(name, samples):
    series = {}
    for sample, value in samples.items():
        match = re.fullmatch(rf'{name}_bucket\{{(.*?),?le="([^"]+)"\}}', sample)
        if match:
            series.setdefault(match.group(1), []).append((float(match.group(2).replace("+Inf", "inf")), value))
    assert series, name
    for labels, buckets in series.items():
        assert buckets == sorted(buckets), f"{name}: bounds and counts must rise"
        assert [count for _, count in buckets] == sorted(count for _, count in buckets), name
        assert buckets[-1][0] == float("inf")
        suffix = f"{{{labels}}}" if labels else ""
        assert samples[f"{name}_count{suffix}"] == buckets[-1][1]
        assert f"{name}_sum{suffix}" in samples


def metrics(node):
    code, text = node.get("/metrics")
    assert code == 200
    return parse_metrics(text)


def test_metrics_are_well_formed_and_grow(node):
    before = metrics(node)
    client = node.client()
    for i in range(100):
        client.set(f"k:{i}", "v" * 1000)
        client.get(f"k:{i}")
    client.hset("h", "f", "v")
    client.set("gone", "v", px=1)
    with pytest.raises(redis.ResponseError):
        client.incr("k:0")
    deadline = time.monotonic() + 60
    after = metrics(node)
    # Figures and histograms of the log are taken one after the other: at rest they say the same.
    while (after["tutti_keyspace_expired_keys_total"] == 0 or
           after["tutti_wal_flush_duration_seconds_count"] != after["tutti_wal_flushes_total"]) and time.monotonic() < deadline:
        time.sleep(0.05)
        after = metrics(node)
    grown = {name: after[name] - before[name] for name in before}
    assert grown['tutti_command_calls_total{family="string"}'] == 202
    assert grown['tutti_command_calls_total{family="hash"}'] == 1
    assert grown['tutti_command_duration_seconds_count{family="string"}'] == 202
    assert 0 < grown['tutti_command_duration_seconds_sum{family="string"}'] < 60
    assert grown["tutti_command_errors_total"] == 1
    assert grown["tutti_keyspace_keys"] == 101
    assert grown["tutti_keyspace_expired_keys_total"] == 1
    assert grown["tutti_keyspace_hits_total"] == 100 and grown["tutti_keyspace_misses_total"] == 0
    assert grown["tutti_connection_accepted_total"] >= 1 and after["tutti_connection_open"] >= 1
    assert grown["tutti_connection_received_bytes_total"] > 100_000
    assert grown["tutti_connection_sent_bytes_total"] > 100_000
    assert grown["tutti_wal_flushes_total"] >= 100
    assert grown["tutti_wal_flush_duration_seconds_count"] == grown["tutti_wal_flushes_total"]
    assert grown["tutti_wal_batch_records_sum"] == grown["tutti_wal_records_total"] >= 100
    assert grown["tutti_wal_batch_bytes_sum"] > 100_000
    assert grown["tutti_wal_written_bytes_total"] > 100_000
    assert grown["tutti_shard_commands_total"] >= 102
    assert after["tutti_shard_applied_index"] > before["tutti_shard_applied_index"]
    assert after["tutti_memory_resident_bytes"] > 1 << 20 and after["tutti_memory_rows_bytes"] > 100_000
    assert after["tutti_memory_store_bytes"] > 0 and after["tutti_memory_limit_bytes"] >= 64 << 20
    assert after["tutti_disk_free_bytes"] > 0 and after["tutti_disk_full"] == 0
    # Of a disk that is slow for others' sake a node has to warn, and of nothing else.
    assert after['tutti_log_lines_total{level="warn"}'] <= node.log().count("level=warn event=node.slow_disk ")
    assert after['tutti_log_lines_total{level="error"}'] == 0


def test_counters_never_fall_while_the_node_is_busy(make_node):
    node = make_node("--reactors", "2").start()
    stop = threading.Event()

    def work(number):
        client = node.client()
        while not stop.is_set():
            pipeline = client.pipeline(transaction=False)
            for i in range(50):
                pipeline.set(f"k:{number}:{i}", "v").get(f"k:{number}:{i}")
            pipeline.execute()

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    try:
        before = metrics(node)
        for _ in range(20):
            now = metrics(node)
            for name, value in before.items():
                assert now[name] >= value or not re.search(r"(_total|_count|_sum|_bucket)($|\{)", name), name
            before = now
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    assert before['tutti_command_calls_total{family="string"}'] > 0


def test_every_metric_is_documented(node):
    page = (ROOT / "docs" / "operations.md").read_text()
    documented = set(re.findall(r"^\| `(tutti_[a-z_]+)` \|", page, re.MULTILINE))
    served = set(re.findall(r"^# HELP (tutti_[a-z_]+) ", node.get("/metrics")[1], re.MULTILINE))
    assert documented == served


def test_metrics_tell_of_a_replay(make_node):
    node = make_node().start()
    for i in range(50):
        node.client().set(f"k:{i}", "v")
    node.kill()
    node.start()
    assert metrics(node)["tutti_replay_entries_total"] >= 50
    assert "node.replayed" in node.log()


def test_health_and_readiness(node):
    assert node.get("/healthz")[0] == 200
    code, text = node.get("/readyz")
    assert code == 200 and text.startswith("well: ")
    assert node.get("/nothing")[0] == 404
    with socket.create_connection(("127.0.0.1", node.admin_port), timeout=30) as connection:
        connection.sendall(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert b" 405 " in connection.recv(4096).split(b"\r\n")[0]


@pytest.fixture
def node_with_a_log(make_node):
    """A killed node that has a while to replay."""
    node = make_node("--memory", "64mb").start()
    client = node.client()
    value = os.urandom(1 << 20)
    pipeline = client.pipeline(transaction=False)
    for i in range(100):
        pipeline.set(f"k:{i}", value)
    pipeline.execute()
    node.kill()
    return node


def test_not_ready_while_the_log_is_replayed(node_with_a_log):
    """The admin port answers from the first moment on: 200 for the process, 503 for service."""
    node = node_with_a_log
    seen = set()
    for _ in range(10):  # It may be ready before anybody had a chance to ask.
        seen.clear()
        node.launch()
        deadline = time.monotonic() + 20
        while 200 not in seen and time.monotonic() < deadline:
            try:
                code, text = node.get("/readyz")
                seen.add(code)
                if code == 503:
                    assert text.startswith("starting: ")
                    assert node.get("/healthz")[0] == 200
                    parse_metrics(node.get("/metrics")[1])
            except OSError:
                pass  # It does not listen yet.
        if seen != {200}:
            break
        node.kill()
    assert seen == {200, 503}


# ---- Logs


def test_log_formats(make_node):
    node = make_node("--log-format", "json", "--log-level", "debug", name="json").start()
    assert node.stop() == 0
    events = [json.loads(line) for line in node.log().splitlines()]
    assert [event["event"] for event in events if event["event"] in ("node.ready", "node.stopped")] == [
        "node.ready", "node.stopped"]
    assert all({"time", "level", "event"} <= event.keys() for event in events)
    ready = next(event for event in events if event["event"] == "node.ready")
    assert ready["redis"] == f"127.0.0.1:{node.redis_port}" and ready["admin"] == f"127.0.0.1:{node.admin_port}"
    node = make_node("--log-level", "warn", name="quiet").start()
    assert node.stop() == 0 and node.log() == ""


def test_port_zero_is_told(make_node):
    node = make_node()
    node.redis_port = node.admin_port = 0
    node.launch()
    deadline = time.monotonic() + START_SECONDS_MAX
    while not (ready := re.search(r"node.ready redis=127.0.0.1:(\d+) admin=127.0.0.1:(\d+)", node.log())):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    node.redis_port, node.admin_port = int(ready.group(1)), int(ready.group(2))
    assert node.redis_port != 0 and node.admin_port != 0
    assert node.client().ping() and status(node).returncode == 0


# ---- Stopping, and standing idle


@pytest.mark.parametrize("reactors", ["1", "3"])
def test_stops_within_seconds_with_clients_connected(make_node, reactors):
    node = make_node("--reactors", reactors).start()
    idle = [node.socket() for _ in range(50)]
    half = node.socket()
    half.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\n")
    watching = socket.create_connection(("127.0.0.1", node.admin_port))
    client = node.client()
    client.set("k", "v")
    started = time.monotonic()
    assert node.stop() == 0
    assert time.monotonic() - started < STOP_SECONDS
    for connection in [*idle, half, watching]:
        connection.close()
    assert "node.stopped" in node.log()
    assert node.start().client().get("k") == b"v"


def test_a_hangup_does_not_stop_it(node):
    node.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 60
    while "event=node.hangup " not in node.log():
        assert time.monotonic() < deadline and node.process.poll() is None, node.log()
        time.sleep(0.01)
    assert node.client().set("k", "v")
    assert node.stop() == 0


def test_one_thread_hears_signals(node):
    """The others, those of libraries too, have them blocked: no handler runs where nobody reckons with it."""
    node.client().set("k", "v")
    masks = [line.split()[1] for status in pathlib.Path(f"/proc/{node.process.pid}/task").glob("*/status")
             for line in status.read_text().splitlines() if line.startswith("SigBlk:")]
    hears = [mask for mask in masks if not int(mask, 16) >> (signal.SIGTERM - 1) & 1]
    assert len(masks) > 5 and len(hears) == 1


def test_closed_standard_files_lead_nowhere(tmp_path):
    """Else files of the node would take their numbers, and lines of the log would be written into them."""
    data = tmp_path / "data"
    command = f'exec "{BINARY}" start --data "{data}" --redis 127.0.0.1:0 --admin 127.0.0.1:0 --peer 127.0.0.1:0 <&- >&- 2>&-'
    process = subprocess.Popen(["sh", "-c", command])
    try:
        deadline = time.monotonic() + 20
        while not (data / "node.conf").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        assert {os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)} == {"/dev/null"}
    finally:
        process.terminate()
    assert process.wait(timeout=20) == 0


def test_stops_while_the_log_is_replayed(node_with_a_log):
    """SIGTERM during a replay is a clean stop, and the next start has everything."""
    node = node_with_a_log
    for _ in range(10):
        said = len(node.log())
        node.launch()
        deadline = time.monotonic() + 20
        while not is_starting(node) and node.process.poll() is None:
            assert time.monotonic() < deadline, node.log()
        started = time.monotonic()
        assert node.stop() == 0
        assert time.monotonic() - started < STOP_SECONDS
        lines = node.log()[said:]
        assert "node.stopped" in lines and "level=error" not in lines
        if "node.ready" not in lines:
            break
    assert "node.ready" not in lines, "it was always ready before it heard of the stop"
    assert node.start().client().dbsize() == 100
    assert node.stop() == 0


def is_starting(node):
    try:
        return node.get("/readyz")[0] == 503
    except OSError:
        return False


def test_an_idle_node_is_small(node):
    time.sleep(1)
    resident = int(re.search(r"VmRSS:\s+(\d+) kB", pathlib.Path(f"/proc/{node.process.pid}/status").read_text()).group(1))
    assert resident < IDLE_RESIDENT_MIB * 1024, f"{resident / 1024:.1f} MiB"
