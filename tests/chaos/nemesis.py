# SPDX-License-Identifier: Apache-2.0
"""What goes wrong, and when: a function of the seed, the duration and the members.

    kill        SIGKILL, and started again at the end; sometimes all nodes at once
    pause       SIGSTOP, SIGCONT
    restart     SIGTERM, and started again at the end
    partition   packets vanish: one member alone, two halves, one direction only, a ring with a gap
    weather     packets are late, lost, doubled, out of order; between some members or all
    disk        the node's disk is full (only where nodes have small disks)

Faults come in rounds of one or two at the same time, with some calm between.
"""
import dataclasses
import itertools

CALM_SECONDS = (0.5, 4)
LAST_SECONDS = (0.3, 6)
PROCESS_FAULTS = {"kill": 4, "pause": 3, "restart": 1}
NETWORK_FAULTS = {"partition": 4, "weather": 3}


@dataclasses.dataclass
class Fault:
    kind: str
    begin: float  # Seconds from the start.
    end: float
    nodes: tuple = ()
    directions: tuple = ()  # Pairs (source, target).
    weather: dict | None = None
    shape: str = ""

    def __str__(self):
        where = " ".join(self.nodes) or f"{self.shape} " + " ".join("->".join(pair) for pair in self.directions)
        return " ".join(str(part) for part in (self.kind, where, self.weather or "") if part)


def draw_schedule(dice, seconds, nodes, has_small_disks):
    """The faults, by begin; all have ended when the time is over."""
    faults = []
    now = dice.uniform(*CALM_SECONDS)
    groups = ["process", "network"] + (["disk"] if has_small_disks else [])
    while True:
        chosen = dice.sample(groups, 2 if dice.random() < 0.35 else 1)
        drawn = [draw_fault(dice, group, now, nodes) for group in sorted(chosen)]
        end = max(fault.end for fault in drawn)
        if end > seconds:
            return sorted(faults, key=lambda fault: fault.begin)
        faults += drawn
        now = end + dice.uniform(*CALM_SECONDS)


def draw_fault(dice, group, now, nodes):
    begin = now + dice.uniform(0, 1)
    end = begin + dice.uniform(*LAST_SECONDS)
    if group == "disk":
        return Fault("disk", begin, end, (dice.choice(nodes),))
    if group == "process":
        kind = dice.choices(list(PROCESS_FAULTS), list(PROCESS_FAULTS.values()))[0]
        count = len(nodes) if dice.random() < 0.15 else 1
        return Fault(kind, begin, end, tuple(sorted(dice.sample(nodes, count))))
    kind = dice.choices(list(NETWORK_FAULTS), list(NETWORK_FAULTS.values()))[0]
    if kind == "partition":
        shape, directions = draw_partition(dice, nodes)
        return Fault(kind, begin, end, directions=directions, shape=shape)
    directions = tuple(pair for pair in itertools.permutations(nodes + ["client"], 2) if dice.random() < 0.6)
    return Fault(kind, begin, end, directions=directions or ((nodes[0], "client"),), weather=draw_weather(dice))


def draw_partition(dice, nodes):
    """Directions in which nothing arrives."""
    members = nodes + ["client"]
    shape = dice.choice(["alone", "halves", "one-way", "gap"] if len(nodes) > 1 else ["alone", "one-way"])
    if shape == "alone":
        lonely = dice.choice(nodes)
        # Clients may still reach it, or not.
        others = [name for name in members if name != lonely and (len(nodes) == 1 or name != "client" or
                                                                  dice.random() < 0.5)]
        pairs = both_ways(itertools.product([lonely], others))
    elif shape == "halves":
        left = dice.sample(nodes, dice.randrange(1, len(nodes)))
        pairs = both_ways(itertools.product(left, [name for name in nodes if name not in left]))
    elif shape == "one-way":
        deaf = dice.choice(members)
        others = [name for name in members if name != deaf]
        heard = dice.sample(others, dice.randrange(1, len(others) + 1))
        pairs = [(name, deaf) for name in heard] if dice.random() < 0.5 else [(deaf, name) for name in heard]
    else:
        # All but two neighbours of a ring see each other.
        pairs = both_ways([tuple(dice.sample(nodes, 2))])
    return shape, tuple(sorted(pairs))


def both_ways(pairs):
    pairs = list(pairs)
    return pairs + [(target, source) for source, target in pairs]


def draw_weather(dice):
    weather = {"delay_ms": dice.choice([0, 5, 50, 200]), "jitter_ms": dice.choice([0, 10, 100]),
               "loss": dice.choice([0, 0.01, 0.05, 0.3]), "duplicate": dice.choice([0, 0, 0.1])}
    return {name: value for name, value in weather.items() if value} or {"delay_ms": 20}


class Nemesis:
    """Carries faults out on a cluster."""

    def __init__(self, cluster, network, say):
        self.cluster = cluster
        self.nodes = {node.name: node for node in cluster.nodes}
        self.network = network
        self.say = say
        self.problems = []
        self.full = set()
        self.waiting = set()  # To be started once their disk has space: a start needs some.

    def start(self, node):
        if node.name in self.full:
            self.waiting.add(node.name)
        elif not node.is_up():
            self.cluster.start(node)

    def begin(self, fault):
        self.say(f"begin {fault}")
        if fault.kind in ("partition", "weather"):
            for source, target in fault.directions:
                if fault.kind == "partition":
                    self.network.block(source, target)
                else:
                    self.network.set_weather(source, target, fault.weather)
            return
        for name in fault.nodes:
            node = self.nodes[name]
            if fault.kind == "kill":
                node.kill()
            elif fault.kind == "pause":
                node.pause()
            elif fault.kind == "disk":
                self.full.add(name)
                node.fill_disk()
            else:
                problem = node.stop()
                self.problems += [problem] if problem else []

    def end(self, fault):
        self.say(f"end   {fault}")
        if fault.kind in ("partition", "weather"):
            for source, target in fault.directions:
                if fault.kind == "partition":
                    self.network.unblock(source, target)
                else:
                    self.network.set_weather(source, target, None)
            return
        for name in fault.nodes:
            node = self.nodes[name]
            if fault.kind == "pause":
                node.resume()
            elif fault.kind == "disk":
                node.free_disk()
                self.full.discard(name)
                if name in self.waiting:
                    self.waiting.discard(name)
                    self.start(node)
            else:
                self.start(node)
