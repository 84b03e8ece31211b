# SPDX-License-Identifier: Apache-2.0
"""Each member (nodes, and `client`) has a network namespace of its own, with one link to a common switch.

    client --.
    n1 ------+-- switch (a bridge in a namespace of its own)
    n2 ------'

Nothing is made in the machine's own network, and runs at the same time do not meet. A direction is *blocked* where it
arrives: the receiver drops what comes from that sender, without an answer. A direction has *weather* when its packets go
through the process of weather.py instead of the switch. The kernel's netem would do the same, but many kernels
lack it; this works wherever there are tun devices, and its dice are those of the seed.
"""
import ctypes
import json
import os
import pathlib
import re
import subprocess
import sys

CLONE_NEWNET = 0x40000000
PREFIX = "chaos-"
TABLE = "inet chaos"


def run(*command, stdin=None):
    result = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


def remove_leftovers():
    """What runs left behind that were killed: namespaces carry the number of their process."""
    for line in run("ip", "netns", "list").splitlines():
        name = line.split()[0] if line.split() else ""
        owner = re.match(rf"{PREFIX}(\d+)-", name)
        if owner and not pathlib.Path(f"/proc/{owner.group(1)}").exists():
            run("ip", "netns", "del", name)


class Network:
    def __init__(self, names, seed):
        self.names = list(names)
        self.seed = seed
        self.addresses = {name: f"10.77.0.{number}" for number, name in enumerate(self.names, 1)}
        self.hub = None
        self.made = []

    def namespace(self, name):
        return f"{PREFIX}{os.getpid()}-{name}"

    def create(self):
        self.make_namespace("switch")
        switch = self.namespace("switch")
        run("ip", "-n", switch, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", switch, "link", "set", "br0", "up")
        for name in self.names:
            self.make_namespace(name)
            own = self.namespace(name)
            run("ip", "link", "add", "eth0", "netns", own, "type", "veth", "peer", "name", name, "netns", switch)
            run("ip", "-n", switch, "link", "set", name, "master", "br0", "up")
            run("ip", "-n", own, "link", "set", "lo", "up")
            run("ip", "-n", own, "addr", "add", self.addresses[name] + "/24", "dev", "eth0")
            run("ip", "-n", own, "link", "set", "eth0", "up")
            # A packet that went through the weather comes back by another device than the answer would take.
            run("ip", "netns", "exec", own, "sh", "-c",
                "echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter; echo 0 >/proc/sys/net/ipv4/conf/default/rp_filter")
            run("ip", "netns", "exec", own, "nft", "-f", "-", stdin=f"""
                table {TABLE} {{
                    set blocked {{ type ipv4_addr; }}
                    chain input {{
                        type filter hook input priority 0;
                        ip saddr @blocked drop
                    }}
                }}""")
        self.start_hub()

    def make_namespace(self, name):
        run("ip", "netns", "add", self.namespace(name))
        self.made.append(self.namespace(name))

    def start_hub(self):
        members = [f"{self.namespace(name)}={self.addresses[name]}" for name in self.names]
        self.hub = subprocess.Popen([sys.executable, str(pathlib.Path(__file__).with_name("weather.py")),
                                     str(self.seed)] + members, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    text=True)
        if self.hub.stdout.readline().strip() != "ready":
            raise RuntimeError("weather.py did not start; is there a /dev/net/tun?")

    def enter(self, name):
        """From now on this thread, and those that it starts, are in the namespace of this member."""
        with open(f"/run/netns/{self.namespace(name)}", "rb") as file:
            if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def block(self, source, target):
        run("ip", "netns", "exec", self.namespace(target), "nft", "add", "element", *TABLE.split(), "blocked",
            f"{{ {self.addresses[source]} }}")

    def unblock(self, source, target):
        run("ip", "netns", "exec", self.namespace(target), "nft", "delete", "element", *TABLE.split(), "blocked",
            f"{{ {self.addresses[source]} }}")

    def set_weather(self, source, target, weather):
        """`weather`: see weather.py. None: packets go through the switch again."""
        self.hub.stdin.write(json.dumps([self.addresses[source], self.addresses[target], weather]) + "\n")
        self.hub.stdin.flush()
        route = [self.addresses[target] + "/32", "dev", "tun0"]
        if weather is None:
            run("ip", "-n", self.namespace(source), "route", "del", *route)
        else:
            run("ip", "-n", self.namespace(source), "route", "replace", *route, "src", self.addresses[source])

    def destroy(self):
        if self.hub is not None:
            self.hub.kill()
            self.hub.wait()
        for name in reversed(self.made):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        self.made = []
