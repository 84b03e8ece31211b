# SPDX-License-Identifier: Apache-2.0
"""A cluster of tutti and one of etcd, with the same face: nodes on loopback, ephemeral ports, fresh directories."""
import ctypes
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from harness import BINARY, free_ports

PR_SET_PDEATHSIG = 1
TICKS = os.sysconf("SC_CLK_TCK")
WAIT_SECONDS_MAX = 60
ETCD_QUOTA_BYTES = 8_000_000_000


class Trouble(Exception):
    """A cluster did not do what it has to; nothing measured on it counts."""


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Node:
    """One process. `port` is the clients'."""

    def __init__(self, name, directory):
        self.name = name
        self.data = directory / name
        self.log_path = directory / f"{name}.log"
        self.port, self.peer_port, self.admin_port = free_ports(3)
        self.command = []
        self.process = None

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def launch(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=die_with_parent)

    def end(self, number=signal.SIGTERM):
        if self.is_running():
            self.process.send_signal(number)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def cpu_s(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mb(self, field="VmRSS"):
        """VmRSS: resident, mapped files included; RssAnon: without files."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
        return 0.0


class Cluster:
    """What both have in common. Nodes are counted from 0."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="tutti-bench-", dir=os.environ.get("TUTTI_BENCH_DATA")))
        self.nodes = []

    def alive(self):
        return [node for node in self.nodes if node.is_running()]

    def wait(self, claim, what):
        """Until `claim()`, which may fail while the cluster is in pieces."""
        deadline = time.monotonic() + WAIT_SECONDS_MAX
        while True:
            try:
                if claim():
                    return
            except (OSError, ValueError, KeyError, subprocess.SubprocessError):
                pass
            for node in self.nodes:
                if node.process is not None and node.process.poll() not in (None, 0, -signal.SIGKILL, -signal.SIGTERM):
                    raise Trouble(f"{node.name} ended; its log is {node.log_path}")
            if time.monotonic() > deadline:
                raise Trouble(f"not within {WAIT_SECONDS_MAX} s: {what}; logs are in {self.directory}")
            time.sleep(0.05)

    def leader(self):
        found = []
        self.wait(lambda: found.append(self.leader_now()) or found[-1] is not None, "a leader")
        return found[-1]

    def others(self, node):
        return [each for each in self.alive() if each is not node]

    def cpu_s(self):
        return sum(node.cpu_s() for node in self.alive())

    def close(self):
        """Also removes the data."""
        for node in self.nodes:
            node.end(signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is Trouble:
            for node in self.nodes:
                node.end(signal.SIGKILL)
        else:
            self.close()


class Tutti(Cluster):
    name = "tutti"
    protocol = "resp"
    kill_time_ms = 3000  # How long writes are watched when a leader is killed.

    def __init__(self, count=3, arguments=()):
        super().__init__()
        self.arguments = list(arguments)
        try:
            for _ in range(count):
                self.add()
            if count > 1:
                self.wait_until_whole()
        except BaseException:
            for node in self.nodes:
                node.end(signal.SIGKILL)
            raise

    def ask(self, *words, node=None):
        node = node or self.alive()[0]
        answer = subprocess.run([BINARY, *words, "--data", node.data, "--json"], capture_output=True, text=True,
                                timeout=30, check=False)
        told = json.loads(answer.stdout)
        if "error" in told:
            raise ValueError(f"tutti {' '.join(words)}: {told['error']}")
        return told

    def add(self):
        node = Node(f"tutti{len(self.nodes) + 1}", self.directory)
        node.command = [str(BINARY), "start", "--data", str(node.data), "--redis", node.address,
                        "--admin", f"127.0.0.1:{node.admin_port}", "--peer", f"127.0.0.1:{node.peer_port}", *self.arguments]
        start = list(node.command)
        if self.nodes:
            node.command += ["--join", f"127.0.0.1:{self.alive()[0].peer_port}", "--token", self.ask("token")["token"]]
        self.nodes.append(node)
        node.launch()
        self.wait_for_answer(node)
        node.command = start
        return node

    def wait_for_answer(self, node):
        def answers():
            with socket.create_connection(("127.0.0.1", node.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        self.wait(answers, f"an answer of {node.name}")

    def shard(self):
        return self.ask("shards")["shards"][0]

    def voters(self):
        return sorted(each["node"] for each in self.shard()["replicas"] if each["role"] == "voter")

    def leader_now(self):
        number = self.shard()["leader"]
        return self.nodes[number - 1] if number > 0 and self.nodes[number - 1].is_running() else None

    def is_whole(self):
        shard = self.shard()
        return (shard["leader"] != 0 and not shard["is_moving"] and
                sum(each["role"] == "voter" for each in shard["replicas"]) == 3 and
                all(each["state"] == "ok" and each.get("lag_entries", 0) < 100 for each in shard["replicas"]))

    def wait_until_whole(self):
        self.wait(self.is_whole, "three replicas in place")

    def start(self, node):
        node.launch()
        self.wait_for_answer(node)

    def transfer(self, node):
        """Asks only: the leader gives up when the other does not catch up in time."""
        self.ask("transfer", "1", str(self.nodes.index(node) + 1), node=self.leader())

    def refresh(self):
        """What a freshly filled store needs before it is read: nothing."""

    def replace(self, node):
        """A new node joins and takes the replica of `node`."""
        self.add()
        number = self.nodes.index(node) + 1
        self.ask("drain", str(number), node=self.leader())
        self.wait(lambda: number not in self.voters() and len(self.voters()) == 3, "a replica on the new node")


class Etcd(Cluster):
    name = "etcd"
    protocol = "etcd"
    kill_time_ms = 9000  # Writes that waited for the dead leader time out after 7 s.

    def __init__(self, count=3):
        super().__init__()
        for number in range(count):
            self.nodes.append(Node(f"etcd{number + 1}", self.directory))
        self.members = ",".join(f"{node.name}=http://127.0.0.1:{node.peer_port}" for node in self.nodes)
        for node in self.nodes:
            peer = f"http://127.0.0.1:{node.peer_port}"
            node.command = [
                "etcd", "--name", node.name, "--data-dir", str(node.data), "--listen-client-urls", f"http://{node.address}",
                "--advertise-client-urls", f"http://{node.address}", "--listen-peer-urls", peer,
                "--initial-advertise-peer-urls", peer, "--initial-cluster", self.members, "--initial-cluster-state", "new",
                "--log-level", "error", "--quota-backend-bytes", str(ETCD_QUOTA_BYTES)]
            node.launch()
        try:
            self.wait_until_whole()
        except BaseException:
            for node in self.nodes:
                node.end(signal.SIGKILL)
            raise

    def status(self):
        alive = self.alive()
        answer = subprocess.run(["etcdctl", "--endpoints", ",".join(node.address for node in alive), "--dial-timeout", "500ms",
                                 "--command-timeout", "2s", "endpoint", "status", "-w", "json"],
                                capture_output=True, text=True, timeout=30, check=False, env={**os.environ, "ETCDCTL_API": "3"})
        return json.loads(answer.stdout)

    def leader_now(self):
        for each in self.status():
            status = each["Status"]
            if status.get("leader", 0) == status["header"]["member_id"]:
                return next(node for node in self.nodes if node.address == each["Endpoint"])
        return None

    def is_whole(self):
        statuses = [each["Status"] for each in self.status()]
        applied = [status.get("raftAppliedIndex", 0) for status in statuses]
        return (len(statuses) == len(self.nodes) and len({status.get("leader", 0) for status in statuses}) == 1 and
                statuses[0].get("leader", 0) != 0 and max(applied) - min(applied) < 100)

    def wait_until_whole(self):
        self.wait(self.is_whole, "all nodes with one leader")

    def start(self, node):
        node.launch()

    def transfer(self, node):
        member = next(each["Status"]["header"]["member_id"] for each in self.status() if each["Endpoint"] == node.address)
        subprocess.run(["etcdctl", "--endpoints", self.leader().address, "move-leader", format(member, "x")],
                       capture_output=True, timeout=30, check=True, env={**os.environ, "ETCDCTL_API": "3"})

    def refresh(self):
        """etcd 3.4 reads a third as fast after many writes, until it is started again (mended in 3.5)."""
        for node in self.nodes:
            node.end()
        for node in self.nodes:
            node.launch()
        self.wait_until_whole()
