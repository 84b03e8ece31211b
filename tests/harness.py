# SPDX-License-Identifier: Apache-2.0
"""A real node for black-box tests: build/tutti on free ports of its own with a data directory of its own."""
import atexit
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import redis

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = pathlib.Path(os.environ.get("TUTTI_BINARY", ROOT / "build" / "tutti"))
START_SECONDS_MAX = 20
STOP_SECONDS_MAX = 10
END_SECONDS_MAX = 60


class Ports:
    """Ports for what listens, a block of its own for each process that runs tests, none of those that the system gives to
    connections and to whoever binds port 0: a node that is down for a moment must find its ports free when it comes back."""

    BLOCK_SIZE = 500
    FIRST, END = 10000, 30000
    RANGE_OF_CONNECTIONS = pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range")

    def __init__(self):
        self.claim = None
        self.block = range(0)
        self.next = 0

    def begin(self):
        """Claim a block. The claim is a name in the network namespace, which goes with the process."""
        first, last = map(int, self.RANGE_OF_CONNECTIONS.read_text(encoding="ascii").split())
        for start in range(self.FIRST, self.END, self.BLOCK_SIZE):
            if start <= last and first < start + self.BLOCK_SIZE:
                continue
            claim = socket.socket(socket.AF_UNIX)
            try:
                claim.bind(f"\0tutti-test-ports-{start}")
            except OSError:
                claim.close()
                continue
            self.claim, self.block, self.next = claim, range(start, start + self.BLOCK_SIZE), 0
            return
        raise AssertionError(f"no {self.BLOCK_SIZE} ports from {self.FIRST} to {self.END} are left for tests")

    def take(self):
        """The one that was not taken for the longest time, and that nobody has now."""
        if self.claim is None:
            self.begin()
        for _ in self.block:
            port = self.block[self.next]
            self.next = (self.next + 1) % len(self.block)
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                    return port
                except OSError:
                    pass  # Somebody has it, or connections to it have just ended.
        raise AssertionError("every port of the block is taken")


PORTS = Ports()


def free_ports(count):
    """Ports that nobody listens on, and that nobody else gets by chance."""
    return [PORTS.take() for _ in range(count)]


def post(node, verb, body):
    """(HTTP status, answer) of what a program asks the control socket of a node."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(30)
    connection.sock.connect(str(node.data / "control"))
    connection.request("POST", f"/v1/{verb}", json.dumps(body))
    answer = connection.getresponse()
    got = answer.status, json.loads(answer.read())
    connection.close()
    return got


STARTED = []  # All processes of nodes.


@atexit.register
def end_what_was_left():
    """A fixture that fails half-way ends none of its nodes; they must not run on beside the tests that follow."""
    for process in STARTED:
        if process.poll() is None:
            process.kill()
            process.wait()


class Node:
    """`arguments` are appended to `tutti start`. Use as a context manager, or stop() it. Between two starts
    `binary` may become that of another version."""

    def __init__(self, data, arguments=(), environment=None, wrapper=(), binary=BINARY):
        self.data = pathlib.Path(data)
        self.binary = binary
        self.redis_port, self.admin_port, self.peer_port = free_ports(3)
        self.arguments = list(arguments)
        self.environment = dict(environment or {})
        self.wrapper = list(wrapper)
        self.log_path = self.data.with_name(self.data.name + ".log")
        self.process = None

    def command(self):
        return self.wrapper + [str(self.binary), "start", "--data", str(self.data),
                               "--redis", f"127.0.0.1:{self.redis_port}",
                               "--admin", f"127.0.0.1:{self.admin_port}",
                               "--peer", f"127.0.0.1:{self.peer_port}"] + self.arguments

    def launch(self):
        """Start without waiting for an answer."""
        assert self.process is None or self.process.poll() is not None
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env={**os.environ, **self.environment})
        STARTED.append(self.process)
        return self

    def start(self):
        """Start, and return once PING (or a demand for a password) is answered."""
        self.launch()
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the node ended with {self.process.returncode}:\n{self.log()[-2000:]}")
            if self.answers():
                return self
            time.sleep(0.005)
        raise AssertionError(f"no answer within {START_SECONDS_MAX} s:\n{self.log()[-2000:]}")

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.redis_port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def client(self, **options):
        return redis.Redis(port=self.redis_port, **options)

    def socket(self, timeout=10):
        return socket.create_connection(("127.0.0.1", self.redis_port), timeout=timeout)

    def get(self, path):
        """(HTTP status, body) of a request to the admin port."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def kill(self):
        """kill -9, and wait until it is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """SIGTERM; the exit code."""
        if self.process is None or self.process.poll() is not None:
            return None if self.process is None else self.process.returncode
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not stop within {STOP_SECONDS_MAX} s:\n{self.log()[-2000:]}") from None

    def ended(self):
        """The exit code of a node that ends by itself, however busy the machine is."""
        return self.process.wait(timeout=END_SECONDS_MAX)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process is not None and self.process.poll() is None:
            self.kill()
