# SPDX-License-Identifier: Apache-2.0
"""Forward packets between namespaces, with weather. A process of its own: python3 weather.py SEED NAMESPACE=ADDRESS...

It makes a device tun0 in each namespace, prints `ready`, and takes packets that are routed there to the namespace of
their destination. On standard input come lines of JSON, [source, target, weather]; weather is null or has

    delay_ms     each packet waits so long,
    jitter_ms    and up to so much longer, each by itself: they overtake each other
    loss         this share of packets is lost
    duplicate    this share comes twice

It ends with its standard input.
"""
import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import socket
import struct
import subprocess
import sys
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
PACKET_SIZE_MAX = 65536
QUEUE_MAX = 20000
BURST = 64


def open_tun(namespace):
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}", "rb") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", b"tun0", IFF_TUN | IFF_NO_PI))
    subprocess.run(["ip", "link", "set", "tun0", "up", "mtu", "1500"], check=True)
    return tun


class Hub:
    def __init__(self, seed, members):
        self.tuns = {socket.inet_aton(address): open_tun(namespace) for namespace, address in members}
        self.seed = seed
        self.weather = {}  # (source, target) -> (weather, dice)
        self.queue = []  # (when, number, tun, packet)
        self.number = 0

    def take_command(self, line):
        source, target, weather = json.loads(line)
        direction = socket.inet_aton(source), socket.inet_aton(target)
        if weather is None:
            self.weather.pop(direction, None)
        else:
            self.weather[direction] = weather, random.Random(f"{self.seed} {source} {target}")

    def take_packet(self, packet):
        if len(packet) < 20 or packet[0] >> 4 != 4 or packet[16:20] not in self.tuns:
            return
        tun = self.tuns[packet[16:20]]
        weather, dice = self.weather.get((packet[12:16], packet[16:20]), (None, None))
        if weather is None:
            self.send(tun, packet)
            return
        if dice.random() < weather.get("loss", 0) or len(self.queue) >= QUEUE_MAX:
            return
        for _ in range(2 if dice.random() < weather.get("duplicate", 0) else 1):
            wait_ms = weather.get("delay_ms", 0) + dice.random() * weather.get("jitter_ms", 0)
            self.number += 1
            heapq.heappush(self.queue, (time.monotonic() + wait_ms / 1000, self.number, tun, packet))

    @staticmethod
    def send(tun, packet):
        try:
            os.write(tun, packet)
        except OSError:
            pass  # A full device is loss, too.

    def run(self):
        poll = select.epoll()
        poll.register(sys.stdin.fileno(), select.EPOLLIN)
        for tun in self.tuns.values():
            poll.register(tun, select.EPOLLIN)
        unfinished = b""
        while True:
            timeout = max(self.queue[0][0] - time.monotonic(), 0) if self.queue else -1
            for ready, _ in poll.poll(timeout):
                if ready == sys.stdin.fileno():
                    read = os.read(ready, PACKET_SIZE_MAX)
                    if not read:
                        return
                    lines = (unfinished + read).split(b"\n")
                    unfinished = lines.pop()
                    for line in lines:
                        self.take_command(line)
                    continue
                for _ in range(BURST):
                    try:
                        self.take_packet(os.read(ready, PACKET_SIZE_MAX))
                    except BlockingIOError:
                        break
            now = time.monotonic()
            while self.queue and self.queue[0][0] <= now:
                _, _, tun, packet = heapq.heappop(self.queue)
                self.send(tun, packet)


def main():
    hub = Hub(sys.argv[1], [argument.split("=") for argument in sys.argv[2:]])
    print("ready", flush=True)
    hub.run()


if __name__ == "__main__":
    main()
