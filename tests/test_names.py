# SPDX-License-Identifier: Apache-2.0
"""Nodes that call each other by names: name servers that do not answer, and nodes that come back elsewhere."""
import shutil
import subprocess
import textwrap
import threading
import time

import pytest
import redis
from test_cluster import Cluster

from harness import Node

SILENCE_S = 60  # As long as a name server says nothing.
WRITE_SECONDS_MAX = 2
STOP_SECONDS_MAX = 10
BACK_SECONDS_MAX = 30

# Names in ".test" are what the files of that name in $NAMES say; while there is a file "silent" nobody answers.
RESOLVER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    int (*system)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(RTLD_NEXT, "getaddrinfo");
    const char *names = getenv("NAMES");
    size_t length = name == NULL ? 0 : strlen(name);
    if (names == NULL || length < 5 || strcmp(name + length - 5, ".test") != 0)
        return system(name, service, hints, found);
    char path[512], number[64] = {0};
    snprintf(path, sizeof path, "%s/silent", names);
    for (int waited_ms = 0; access(path, F_OK) == 0; waited_ms += 10) {
        if (waited_ms >= SILENCE_S * 1000)
            return EAI_AGAIN;
        usleep(10000);
    }
    snprintf(path, sizeof path, "%s/%s", names, name);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return EAI_NONAME;
    if (fscanf(file, "%63s", number) != 1)
        number[0] = 0;
    fclose(file);
    return system(number, service, hints, found);
}
"""


class NamedNode(Node):
    """Other nodes are told its name; it listens at an address of its own."""

    address = "127.0.0.1"

    def command(self):
        words = super().command()
        words[words.index("--peer") + 1] = f"{self.address}:{self.peer_port}"
        return words


class Names(Cluster):
    """Node N is called nodeN.test, and at 127.0.0.N."""

    def __init__(self, directory, library):
        super().__init__(directory)
        self.names = directory / "names"
        self.names.mkdir()
        self.environment = {"LD_PRELOAD": str(library), "NAMES": str(self.names)}

    def say(self, number, address):
        new = self.names / "new"
        new.write_text(address)
        new.rename(self.names / f"node{number}.test")

    def be_silent(self):
        (self.names / "silent").touch()

    def answer(self):
        (self.names / "silent").unlink()

    def wait_until_healthy(self, node):
        deadline = time.monotonic() + BACK_SECONDS_MAX
        while not self.ask("nodes", node=node).get("verdict", "").startswith("healthy"):
            assert time.monotonic() < deadline, self.ask("nodes", node=node)
            time.sleep(0.2)

    def add_named(self):
        number = len(self.nodes) + 1
        arguments = ["--memory", "128mb"]
        if self.nodes:
            arguments += ["--join", f"node1.test:{self.nodes[0].peer_port}", "--token", self.ask("token")["token"]]
        node = NamedNode(self.directory / f"node{number}", arguments, self.environment)
        node.address = f"127.0.0.{number}"
        node.arguments += ["--advertise", f"node{number}.test:{node.peer_port}"]
        self.say(number, node.address)
        self.nodes.append(node)
        return node.start()


@pytest.fixture
def named(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    source, library = tmp_path / "names.c", tmp_path / "names.so"
    source.write_text(textwrap.dedent(RESOLVER))
    subprocess.run([compiler, "-shared", "-fPIC", f"-DSILENCE_S={SILENCE_S}", "-o", str(library), str(source), "-ldl"], check=True)
    made = Names(tmp_path, library)
    for _ in range(3):
        made.add_named()
    made.wait_for_voters(3)
    yield made
    made.stop()


class Writer:
    """Writes to one node until it ends; `longest` is how long one write took at most, errors are kept."""

    def __init__(self, node):
        self.node, self.longest, self.errors, self.count = node, 0, [], 0
        self.is_over = False
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        client = self.node.client(socket_timeout=20)
        while not self.is_over:
            began = time.monotonic()
            try:
                client.set("key", "value")
            except redis.RedisError as error:
                self.errors.append(repr(error))
            self.longest = max(self.longest, time.monotonic() - began)
            self.count += 1
            time.sleep(0.01)

    def end(self):
        self.is_over = True
        self.thread.join()


def test_name_servers_are_silent_and_nobody_waits(named):
    leader = named.leader()
    other, victim = (node for node in named.nodes if node is not leader)
    number = str(named.nodes.index(victim) + 1)
    writers = [Writer(leader), Writer(other)]
    try:
        named.be_silent()
        named.ask("drain", number, node=leader)  # The rows of the cluster change: all look at them.
        named.ask("drain", number, "--cancel", node=leader)
        time.sleep(3)
        victim.kill()  # Now the others look its name up.
        time.sleep(3)
    finally:
        for writer in writers:
            writer.end()
    for writer in writers:
        assert writer.errors == [] and writer.count > 100
        assert writer.longest < WRITE_SECONDS_MAX
    began = time.monotonic()
    assert other.stop() == 0  # It has such a lookup under way.
    assert time.monotonic() - began < STOP_SECONDS_MAX
    named.answer()
    other.start()
    victim.start()
    named.wait_until_healthy(leader)


def test_a_node_comes_back_elsewhere_under_its_name(named):
    node = named.nodes[2]
    assert node.stop() == 0
    node.address = "127.0.0.13"
    named.say(3, node.address)
    node.start()
    client = named.nodes[0].client(socket_timeout=20)
    for number in range(100):
        client.set(f"key:{number}", number)
    named.wait_until_healthy(named.nodes[0])
    named.nodes[1].kill()  # With it, two of three are there.
    assert client.set("key", "value")
