# SPDX-License-Identifier: Apache-2.0
"""The load generator of the benchmarks asks what it says it asks, of both protocols."""
import json
import shutil
import subprocess
import time

import pytest

from harness import BINARY, Node, ROOT, free_ports

LOAD = ROOT / "build" / "tutti-load"
KEYS = 2000
OPTIONS = ["--keys", str(KEYS), "--warm-up", "0", "--time", "200"]

pytestmark = pytest.mark.skipif(not LOAD.exists(), reason="built where nghttp2 is")


def load(protocol, operation, port, *options):
    answer = subprocess.run([LOAD, protocol, operation, "--nodes", f"127.0.0.1:{port}", *OPTIONS, *options],
                            capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def asked(*arguments):
    """A load that got through: a busy machine may take longer than one lasts."""
    deadline = time.monotonic() + 30
    while True:
        run = load(*arguments)
        if run["answers"] + run["errors"] > 0 or time.monotonic() > deadline:
            return run


def test_resp_fills_reads_and_overwrites(tmp_path):
    with Node(tmp_path / "data") as node:
        client = node.client()
        empty = asked("resp", "read", node.redis_port)
        assert empty["missing"] == empty["answers"] > 0, "what is not there is reported"
        filled = load("resp", "fill", node.redis_port, "--pipeline", "7", "--clients", "3")
        assert filled["answers"] == KEYS == client.dbsize() and filled["errors"] == 0
        assert len(client.get("key:000000001999")) == 256
        read = asked("resp", "read", node.redis_port, "--pipeline", "16")
        assert read["answers"] > 0 and read["missing"] == 0 and 0 < read["p50_ms"] <= read["p99_ms"] <= read["longest_ms"]
        asked("resp", "write", node.redis_port, "--value", "10")
        assert client.dbsize() == KEYS
        assert 10 in {len(client.get(f"key:{i:012}")) for i in range(KEYS)}


def test_refusals_and_pauses_are_reported(tmp_path):
    with Node(tmp_path / "data", ["--requirepass", "secret"]) as node:
        refused = asked("resp", "write", node.redis_port, "--pause", "50")
        assert refused["errors"] > 0 and refused["answers"] == 0
        assert any(until - since > 150e6 for since, until in refused["pauses"]), "200 ms without an answer"


@pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed")
def test_etcd_fills_reads_and_overwrites(tmp_path):
    port, peer_port = free_ports(2)
    process = subprocess.Popen(
        ["etcd", "--data-dir", str(tmp_path / "etcd"), "--listen-client-urls", f"http://127.0.0.1:{port}",
         "--advertise-client-urls", f"http://127.0.0.1:{port}", "--listen-peer-urls", f"http://127.0.0.1:{peer_port}",
         "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer_port}",
         "--initial-cluster", f"default=http://127.0.0.1:{peer_port}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while subprocess.run([LOAD, "etcd", "read", "--nodes", f"127.0.0.1:{port}", "--time", "20", "--warm-up", "0"],
                             capture_output=True, timeout=30, check=False).returncode != 0:
            assert time.monotonic() < deadline, "etcd does not answer"
            time.sleep(0.1)
        empty = asked("etcd", "read", port)
        assert empty["missing"] == empty["answers"] > 0
        filled = load("etcd", "fill", port, "--clients", "200", "--streams", "50")
        assert filled["answers"] == KEYS and filled["errors"] == 0
        read = asked("etcd", "read", port, "--clients", "7", "--streams", "3")
        assert read["answers"] > 0 and read["missing"] == 0
        assert asked("etcd", "write", port)["answers"] > 0
    finally:
        process.kill()
        process.wait()
