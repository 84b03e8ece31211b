# SPDX-License-Identifier: Apache-2.0
"""The processes of a cluster, each in a namespace and with a disk of its own.

What a node's command line is, and how a cluster is formed, is in TuttiCluster and nowhere else. RedisCluster starts
redis-server without persistence in its place: one that forgets everything, to see that the checks notice.
"""
import ctypes
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BINARY = pathlib.Path(os.environ.get("TUTTI_BINARY", ROOT / "build" / "tutti"))
REDIS_PORT = 6379
ADMIN_PORT = 7379
PEER_PORT = 7380
PASSWORD = "x"
STOP_SECONDS_MAX = 20
REPLICA_COUNT = 3  # What --replicas is by itself.
PR_SET_PDEATHSIG = 1
MOUNT_PREFIX = "chaos-"


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def remove_leftover_mounts():
    """Small disks of runs that were killed."""
    for line in pathlib.Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        source, point = line.split()[:2]
        owner = source[len(MOUNT_PREFIX):]
        if source.startswith(MOUNT_PREFIX) and owner.isdigit() and not pathlib.Path(f"/proc/{owner}").exists():
            run_command("umount", point)


class Node:
    """One process. `states`: down, up, paused; what ends it without being asked is remembered."""

    def __init__(self, name, network, folder, disk_mb):
        self.name = name
        self.network = network
        self.address = network.addresses[name]
        self.disk = folder / name
        self.data = self.disk / "data"
        self.log_path = folder / f"{name}.log"
        self.process = None
        self.is_paused = False
        self.has_joined = False
        self.deaths = []
        self.is_mounted = False
        self.disk.mkdir(parents=True)
        if disk_mb:
            # The source tells whose it is, for remove_leftover_mounts().
            run_command("mount", "-t", "tmpfs", "-o", f"size={disk_mb}m", f"{MOUNT_PREFIX}{os.getpid()}", str(self.disk))
            self.is_mounted = True

    def inside(self, command):
        return ["ip", "netns", "exec", self.network.namespace(self.name)] + command

    def launch(self, command):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.inside(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            preexec_fn=die_with_parent)
        self.is_paused = False

    def is_up(self):
        """Is the process there, if only paused? If it ended by itself, that is noted."""
        if self.process is None:
            return False
        if self.process.poll() is None:
            return True
        self.deaths.append(f"{self.name} ended by itself with {self.process.returncode}")
        self.process = None
        return False

    def kill(self):
        if self.is_up():
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self):
        """A clean stop; None, or what was wrong with it."""
        if not self.is_up():
            return f"{self.name} is not running"
        self.resume()
        self.process.terminate()
        try:
            code = self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            return f"{self.name} did not stop within {STOP_SECONDS_MAX} s"
        self.process = None
        return None if code == 0 else f"{self.name} stopped with {code}"

    def pause(self):
        if self.is_up():
            self.process.send_signal(signal.SIGSTOP)
            self.is_paused = True

    def resume(self):
        if self.is_paused and self.is_up():
            self.process.send_signal(signal.SIGCONT)
        self.is_paused = False

    def fill_disk(self):
        try:
            with open(self.disk / "filler", "wb") as file:
                while True:
                    file.write(bytes(1 << 20))
                    file.flush()
        except OSError:
            pass  # That was the purpose.

    def free_disk(self):
        (self.disk / "filler").unlink(missing_ok=True)

    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def destroy(self):
        self.kill()
        if self.is_mounted:
            subprocess.run(["umount", str(self.disk)], capture_output=True, check=False)
        shutil.rmtree(self.disk, ignore_errors=True)


def run_command(*command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip()}")
    return result.stdout


def usage():
    return subprocess.run([str(BINARY), "start", "--help"], capture_output=True, text=True, check=False).stdout


def can_join():
    return "--join" in usage()


class TuttiCluster:
    password = PASSWORD
    start_seconds_max = 60

    def __init__(self, nodes):
        self.nodes = nodes
        self.has_peers = "--peer" in usage()
        if len(nodes) > 1 and not can_join():
            raise RuntimeError(f"{BINARY} cannot join nodes to a cluster; NODES=1 works")

    def command(self, node):
        command = [str(BINARY), "start", "--data", str(node.data), "--redis", f"{node.address}:{REDIS_PORT}",
                   "--admin", f"{node.address}:{ADMIN_PORT}", "--requirepass", PASSWORD]
        if self.has_peers:
            command += ["--peer", f"{node.address}:{PEER_PORT}"]
        return command

    def form(self):
        """Start the first, then the others, which join with a token of the first."""
        first = self.nodes[0]
        self.start(first)
        self.wait_ready([first], self.start_seconds_max)
        for node in self.nodes[1:]:
            token = run_command(*first.inside([str(BINARY), "token", "--data", str(first.data)])).strip()
            node.launch(self.command(node) + ["--join", f"{first.address}:{PEER_PORT}", "--token", token])
            self.wait_ready([node], self.start_seconds_max)
        self.wait_replicated(min(len(self.nodes), REPLICA_COUNT))

    def wait_replicated(self, count):
        """Until every shard has so many voters, or an error: before that, a node that dies takes data along."""
        first = self.nodes[0]
        deadline = time.monotonic() + self.start_seconds_max
        while time.monotonic() < deadline:
            # Its exit code says whether all is well, which it is not yet.
            told = json.loads(subprocess.run(
                first.inside([str(BINARY), "shards", "--data", str(first.data), "--json"]),
                stdout=subprocess.PIPE, check=False).stdout)
            if all(sum(replica["role"] == "voter" for replica in shard["replicas"]) == count
                   for shard in told["shards"]):
                return
            time.sleep(0.1)
        raise RuntimeError(f"not {count} replicas after {self.start_seconds_max} s")

    def start(self, node):
        node.launch(self.command(node))

    def is_ready(self, node):
        try:
            with urllib.request.urlopen(f"http://{node.address}:{ADMIN_PORT}/readyz", timeout=1) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def wait_ready(self, nodes, seconds_max):
        """How long it took until all are ready, or an error."""
        started = time.monotonic()
        while time.monotonic() < started + seconds_max:
            if all(self.is_ready(node) for node in nodes):
                return time.monotonic() - started
            time.sleep(0.05)
        late = [node.name for node in nodes if not self.is_ready(node)]
        raise RuntimeError(f"not ready after {seconds_max} s: {', '.join(late)}")


class RedisCluster(TuttiCluster):
    """Single nodes that know nothing of each other and keep nothing."""

    password = PASSWORD

    def __init__(self, nodes):  # pylint: disable=super-init-not-called
        self.nodes = nodes

    def command(self, node):
        return ["redis-server", "--bind", node.address, "--port", str(REDIS_PORT), "--save", "", "--requirepass",
                PASSWORD, "--daemonize", "no"]

    def form(self):
        for node in self.nodes:
            self.start(node)
        self.wait_ready(self.nodes, self.start_seconds_max)

    def is_ready(self, node):
        import redis
        try:
            return redis.Redis(node.address, REDIS_PORT, password=PASSWORD, socket_timeout=1).ping()
        except redis.RedisError:
            return False
