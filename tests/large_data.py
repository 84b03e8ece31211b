#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Far more data than memory: load it, watch the memory, read it back, restart, check.

By hand: it needs minutes and twice the space of the data. Values do not compress, and each is a function
of its key, so that every GET is verified. Prints one line of JSON at the end; exits 1 when a claim fails:
resident memory within the bound, every value right, a restart and a kill -9 that lose nothing, and
`tutti check` that finds the directory whole.

  tests/large_data.py --gigabytes 20 --memory 1gb
"""
import argparse
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from harness import free_ports

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TUTTI = os.environ.get("TUTTI", os.path.join(ROOT, "build", "tutti"))
NOISE = random.Random(20).randbytes(32 << 20)
BATCH = 128
UNITS = {"mb": 1 << 20, "gb": 1 << 30}


def key_of(i):
    return b"key:%012d" % i


def value_of(i, size):
    at = (i * 2654435761) % (len(NOISE) - size)
    return NOISE[at:at + size]


class Node:
    def __init__(self, directory, memory):
        self.directory, self.memory = directory, memory
        self.data = os.path.join(directory, "data")
        self.log_path = os.path.join(directory, "log")
        self.rss_max_kb = 0

    def start(self):
        """Returns how long it took until the first answer."""
        self.port, admin_port, peer_port = free_ports(3)
        started = time.monotonic()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [TUTTI, "start", "--data", self.data, "--redis", f"127.0.0.1:{self.port}", "--admin",
                 f"127.0.0.1:{admin_port}", "--peer", f"127.0.0.1:{peer_port}", "--memory", self.memory],
                stdout=log, stderr=log)
        while time.monotonic() - started < 300:
            if self.process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                    probe.sendall(b"PING\r\n")
                    if probe.recv(16).startswith(b"+PONG"):
                        return time.monotonic() - started
            except OSError:
                time.sleep(0.01)
        sys.exit(f"the node does not answer; its log is {self.log_path}")

    def sample(self):
        with open(f"/proc/{self.process.pid}/status") as status:
            kb = int(re.search(r"VmRSS:\s*(\d+)", status.read()).group(1))
        self.rss_max_kb = max(self.rss_max_kb, kb)
        return kb

    def stop(self, number):
        started = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(60)
        return time.monotonic() - started

    def replayed(self):
        with open(self.log_path) as log:
            lines = [line for line in log if "event=node.replayed" in line]
        return lines[-1].strip().split("event=")[1] if lines else "nothing"


def load(port, first, end, step, size, until, done):
    """SET keys first, first + step, …; `done` is how many are acknowledged."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for start in range(first, end, step * BATCH):
            if time.monotonic() > until:
                return
            keys = range(start, min(end, start + step * BATCH), step)
            head = b"*3\r\n$3\r\nSET\r\n$16\r\n%s\r\n$%d\r\n"
            connection.sendall(b"".join(head % (key_of(i), size) + value_of(i, size) + b"\r\n" for i in keys))
            expect(connection, b"+OK\r\n" * len(keys))
            done.value += len(keys)


def expect(connection, wanted):
    got = bytearray()
    while len(got) < len(wanted):
        part = connection.recv(1 << 20)
        if not part:
            sys.exit("the node hung up")
        got += part
    if got != wanted:
        sys.exit(f"wrong answer, it begins with {bytes(got[:80])}")


def read(node, counts, loaders, size, seconds):
    """Verified GETs of random keys that were acknowledged; their rate."""
    chance = random.Random(1)
    pick = [k for k in range(loaders) if counts[k] > 0]
    count, started = 0, time.monotonic()
    with socket.create_connection(("127.0.0.1", node.port)) as connection:
        while time.monotonic() - started < seconds:
            keys = [(k := chance.choice(pick)) + loaders * chance.randrange(counts[k]) for _ in range(BATCH)]
            connection.sendall(b"".join(b"*2\r\n$3\r\nGET\r\n$16\r\n%s\r\n" % key_of(i) for i in keys))
            expect(connection, b"".join(b"$%d\r\n%s\r\n" % (size, value_of(i, size)) for i in keys))
            count += BATCH
            if count % (16 * BATCH) == 0:
                node.sample()
    return count / (time.monotonic() - started)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--memory", default="1gb")
    parser.add_argument("--value", type=int, default=4096, help="bytes")
    parser.add_argument("--loaders", type=int, default=4)
    parser.add_argument("--load-seconds", type=float, default=3600, help="stop loading then")
    parser.add_argument("--read-seconds", type=float, default=20)
    options = parser.parse_args()
    bound = int(options.memory[:-2]) * UNITS[options.memory[-2:]]
    directory = tempfile.mkdtemp(prefix="tutti-large-", dir=os.environ.get("TUTTI_LARGE_DATA"))
    node = Node(directory, options.memory)
    try:
        report = run(node, options)
    finally:
        if node.process.poll() is None:
            node.process.kill()
            node.process.wait()
        shutil.rmtree(directory, ignore_errors=True)
    report["is_rss_within_bound"] = node.rss_max_kb * 1024 <= bound
    print(json.dumps(report))
    if not report["is_rss_within_bound"] or report["check"] != 0:
        sys.exit(1)


def run(node, options):
    node.start()
    total = int(options.gigabytes * 1e9 / options.value)
    done = [multiprocessing.Value("q", 0) for _ in range(options.loaders)]
    started = time.monotonic()
    loaders = [multiprocessing.Process(target=load, args=(node.port, k, total, options.loaders, options.value,
                                                          started + options.load_seconds, done[k]))
               for k in range(options.loaders)]
    for loader in loaders:
        loader.start()
    told = started
    while any(loader.is_alive() for loader in loaders):
        kb = node.sample()
        if time.monotonic() - told > 15:
            told = time.monotonic()
            print(f"{told - started:.0f} s: {sum(d.value for d in done) * options.value / 1e9:.2f} GB, "
                  f"resident {kb >> 10} MB", flush=True)
        time.sleep(0.2)
    if any(loader.exitcode != 0 for loader in loaders):
        sys.exit("a loader failed")
    took = time.monotonic() - started
    counts = [d.value for d in done]
    loaded = sum(counts) * options.value
    report = {"values": sum(counts), "value_bytes": options.value, "gigabytes": loaded / 1e9,
              "load_mb_per_s": round(loaded / 1e6 / took, 1), "load_rss_max_mb": node.rss_max_kb >> 10}
    report["kill_9_restart_s"] = (node.stop(signal.SIGKILL), round(node.start(), 2))[1]
    report["replayed"] = node.replayed()
    report["get_per_s"] = round(read(node, counts, options.loaders, options.value, options.read_seconds))
    report["rss_max_mb"] = node.rss_max_kb >> 10
    report["stop_s"] = round(node.stop(signal.SIGTERM), 2)
    report["restart_s"] = round(node.start(), 2)
    report["get_after_restart_per_s"] = round(read(node, counts, options.loaders, options.value, 5))
    node.stop(signal.SIGTERM)
    started = time.monotonic()
    report["check"] = subprocess.run([TUTTI, "check", node.data]).returncode
    report["check_s"] = round(time.monotonic() - started, 1)
    return report


if __name__ == "__main__":
    main()
