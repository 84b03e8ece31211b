# SPDX-License-Identifier: Apache-2.0
"""What tools/bench-cluster measures: each function yields rows of the table."""
import json
import os
import pathlib
import signal
import statistics
import subprocess
import time

from bench import report
from bench.clusters import Etcd, Trouble, Tutti
from harness import ROOT

LOAD = ROOT / "build" / "tutti-load"
VALUE_BYTES = 256
KEYS = 100_000
KEYS_OF_MEMORY = 1_000_000
STREAMS = ("--clients", "1000", "--streams", "100")
BOUND = "384mb"
TRANSFERS = 10
QUIET_PERCENT = 12  # Of one processor, for a whole cluster.
DISTURBED_PERCENT = 15  # Of one processor, used by what is not measured.


# ---- the load ------------------------------------------------------------------------------------------


def machine_busy_s():
    fields = [int(field) for field in pathlib.Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]]
    return (fields[0] + fields[1] + fields[2] + fields[5] + fields[6] + fields[7]) / os.sysconf("SC_CLK_TCK")


class Load:
    """tutti-load, running; end() is what it found."""

    def __init__(self, cluster, operation, nodes, *arguments, keys=KEYS):
        self.process = subprocess.Popen(
            [LOAD, cluster.protocol, operation, "--nodes", ",".join(node.address for node in nodes), "--keys", str(keys),
             "--value", str(VALUE_BYTES), *arguments], stdout=subprocess.PIPE, text=True)

    def end(self):
        output, _ = self.process.communicate(timeout=600)
        if self.process.returncode != 0:
            raise Trouble("the load generator failed")
        return json.loads(output)


class Bench:
    def __init__(self, arguments):
        self.reps = arguments.reps
        self.seconds = arguments.seconds
        self.kills = arguments.kills
        self.tutti_arguments = ["--memory", arguments.memory] if arguments.memory else []
        self.disturbed = 0
        self.failovers_ms = {}

    def tutti(self, count=3):
        return Tutti(count, self.tutti_arguments)

    def fill(self, cluster, keys=KEYS):
        options = STREAMS if cluster.protocol == "etcd" else ("--clients", "64", "--pipeline", "16")
        Load(cluster, "fill", [cluster.leader()], *options, keys=keys).end()

    def load(self, cluster, operation, *options, nodes=None):
        """One measurement, of the leader's clients unless told otherwise; with processor time per answer of all nodes."""
        nodes = nodes or [cluster.leader()]
        busy, cpu, began = machine_busy_s(), cluster.cpu_s(), time.monotonic()
        run = Load(cluster, operation, nodes, "--time", str(int(self.seconds * 1000)), *options).end()
        cpu = cluster.cpu_s() - cpu
        own = cpu + run["cpu_us"] * run["answers"] / 1e6
        foreign = 100 * (machine_busy_s() - busy - own) / (time.monotonic() - began)
        self.disturbed += foreign > DISTURBED_PERCENT
        if run["errors"] or run["missing"]:
            print(f"  {cluster.name}: {run['errors']} refused, {run['missing']} keys not there", flush=True)
        return {**run, "cluster_cpu_us": cpu / max(run["answers"], 1) * 1e6, "foreign_percent": foreign}


def median(runs, key):
    return statistics.median(run[key] for run in runs)


def more_of(peer, tutti):
    figures = {}
    for name, runs in (("peer", peer), ("tutti", tutti)):
        figures |= {f"{name}_p50_ms": median(runs, "p50_ms"), f"{name}_p99_ms": median(runs, "p99_ms"),
                    f"{name}_cpu_us": median(runs, "cluster_cpu_us"), f"{name}_client_percent": median(runs, "cpu_percent")}
    return figures


# ---- rows ----------------------------------------------------------------------------------------------

# name, operation, [what etcd is asked: the best counts], what tutti is asked, [(figure, its name, goal, is less better)]
CELLS = [
    ("linearizable reads, 64 clients", "read", [("--clients", "64")], ("--clients", "64"), [("rate", "", 5, False)]),
    ("linearizable reads, pipeline 16, etcd's best", "read", [("--clients", "256"), STREAMS],
     ("--clients", "64", "--pipeline", "16"), [("rate", "", 12, False)]),
    ("writes, 64 clients", "write", [("--clients", "64")], ("--clients", "64"),
     [("rate", "", 5, False), ("cluster_cpu_us", ", cpu of all nodes us/op", 0.25, True)]),
    ("writes, 256 clients", "write", [("--clients", "256")], ("--clients", "256"), [("rate", "", 6, False)]),
    ("writes, pipeline 16, etcd's best", "write", [STREAMS], ("--clients", "64", "--pipeline", "16"),
     [("rate", "", 6, False)]),
    ("write, 1 client", "write", [("--clients", "1")], ("--clients", "1"),
     [("p50_ms", ", median ms", 0.5, True), ("p99_ms", ", p99 ms", 0.5, True)]),
    ("writes, 64 clients, over all nodes", "write", [("--clients", "64")], ("--clients", "64"), [("rate", "", None, False)]),
]
ALONE = "writes, 64 clients, against one node of its own"


def measure_cells(bench, is_wanted):
    """etcd and tutti in turn; reads come first, while etcd's store is freshly filled."""
    cells = [cell for cell in CELLS if is_wanted(cell[0])]
    if not cells:
        return
    with Etcd() as etcd, bench.tutti() as tutti:
        for cluster in (etcd, tutti):
            bench.fill(cluster)
            cluster.refresh()
        for name, operation, asked_etcd, asked_tutti, figures in cells:
            runs = {etcd: [], tutti: []}
            where = {cluster: cluster.nodes if "all nodes" in name else None for cluster in runs}
            for _ in range(bench.reps):
                tries = [bench.load(etcd, operation, *asked, nodes=where[etcd]) for asked in asked_etcd]
                runs[etcd].append(max(tries, key=lambda run: run["rate"]))
                runs[tutti].append(bench.load(tutti, operation, *asked_tutti, nodes=where[tutti]))
            for figure, suffix, goal, is_less_better in figures:
                yield report.compared(name + suffix, [run[figure] for run in runs[etcd]], [run[figure] for run in runs[tutti]],
                                      goal, is_less_better, **more_of(runs[etcd], runs[tutti]))


def measure_alone(bench, is_wanted):
    """Three nodes beside one: what replication costs."""
    if not is_wanted(ALONE):
        return
    with bench.tutti(1) as alone, bench.tutti() as tutti:
        runs = {alone: [], tutti: []}
        for cluster in runs:
            bench.fill(cluster)
        for _ in range(bench.reps):
            for cluster, measured in runs.items():
                measured.append(bench.load(cluster, "write", "--clients", "64"))
        yield report.compared(ALONE, [run["rate"] for run in runs[alone]], [run["rate"] for run in runs[tutti]], 0.4,
                              **more_of(runs[alone], runs[tutti]))


def settle(cluster):
    """What a load leaves to be done is over: compaction, and the split of a shard that has grown too large."""
    quiet_s = 0
    for _ in range(60):
        cpu = cluster.cpu_s()
        time.sleep(1)
        quiet_s = quiet_s + 1 if cluster.cpu_s() - cpu < QUIET_PERCENT / 100 else 0
        if quiet_s == 10:
            return
    print(f"  {cluster.name}: not at rest after a minute", flush=True)


def rest(bench, cluster):
    """(MB resident, MB of it without mapped files, % of a processor) of a cluster that holds a million keys and is idle: of the
    mean node, and of all together."""
    bench.fill(cluster, KEYS_OF_MEMORY)
    settle(cluster)
    cpu = cluster.cpu_s()
    time.sleep(5)
    print(f"  {cluster.name}: {', '.join(f'{node.memory_mb():.0f}' for node in cluster.nodes)} MB resident", flush=True)
    return ([statistics.mean(node.memory_mb() for node in cluster.nodes)],
            [statistics.mean(node.memory_mb("RssAnon") for node in cluster.nodes)], [(cluster.cpu_s() - cpu) / 5 * 100])


def measure_memory(bench, is_wanted):
    """tutti takes what its bound allows for rows that are read again, so it is measured twice: with its default, a quarter of the
    machine, and bounded."""
    name = "memory per node, a million keys"
    if not is_wanted(name):
        return
    with Etcd() as cluster:
        etcd = rest(bench, cluster)
    with bench.tutti() as cluster:
        tutti = rest(bench, cluster)
    with Tutti(3, ["--memory", BOUND]) as cluster:
        bounded = rest(bench, cluster)
        reads = bench.load(cluster, "read", "--clients", "64", "--keys", str(KEYS_OF_MEMORY))
        print(f"  of them all, 64 clients read {report.number(reads['rate'])}/s", flush=True)
    yield report.compared(f"{name}, MB", etcd[0], tutti[0], 0.7, True)
    yield report.compared(f"{name}, --memory {BOUND}, MB", etcd[0], bounded[0], 0.7, True)
    yield report.compared(f"{name}, without mapped files, MB", etcd[1], tutti[1], None, True)
    yield report.compared("cpu of three idle nodes, % of one processor", etcd[2], tutti[2], None, True)


# ---- rows about interruptions --------------------------------------------------------------------------


def longest_pause(run, since_ns, until_ns):
    """(from, until) of the longest time without an answer that touches these times."""
    touching = [pause for pause in run["pauses"] if pause[1] > since_ns and pause[0] < until_ns]
    return max(touching, key=lambda pause: pause[1] - pause[0], default=(since_ns, since_ns))


def kill_leader(cluster):
    """(ms until writes resume, ms until the client that waited longest went on, refused writes)."""
    leader = cluster.leader()
    load = Load(cluster, "write", cluster.others(leader), "--warm-up", "0", "--time", str(cluster.kill_time_ms), "--pause", "5")
    time.sleep(0.7)
    killed_ns = time.monotonic_ns()
    leader.end(signal.SIGKILL)
    run = load.end()
    cluster.start(leader)
    cluster.wait_until_whole()
    _, until_ns = longest_pause(run, killed_ns, killed_ns + 3_000_000_000)
    return (until_ns - killed_ns) / 1e6, run["longest_ms"], run["errors"]


def measure_failovers(bench, is_wanted):
    """The leader is killed (SIGKILL) under the load of 64 clients of the other two."""
    name = "leader killed under load: writes resume after"
    if not is_wanted(name):
        return
    figures = {}
    for make, count in ((bench.tutti, bench.kills), (Etcd, bench.kills // 5)):
        if count == 0:
            continue
        with make() as cluster:
            bench.fill(cluster)
            kills = [kill_leader(cluster) for _ in range(count)]
            figures[cluster.name] = kills
            bench.failovers_ms[cluster.name] = [kill[0] for kill in kills]
            print(f"  {cluster.name}: {count} kills, {sum(kill[2] for kill in kills)} writes refused; the client that waited longest: "
                  f"median {statistics.median(kill[1] for kill in kills):.0f} ms, most {max(kill[1] for kill in kills):.0f} ms",
                  flush=True)
    for share, goal in ((0.5, 300), (0.99, 1000)):
        times = {system: report.quantile(values, share) for system, values in bench.failovers_ms.items()}
        yield report.absolute(f"{name}, p{share * 100:.0f} ms", times["tutti"], goal, f"at most {goal} ms", peer=times.get("etcd"))


def transfer_leader(cluster, i):
    """(ms of the longest pause, refused writes, whether another node leads then)."""
    leader = cluster.leader()
    load = Load(cluster, "write", cluster.nodes, "--warm-up", "0", "--time", "2000", "--pause", "2")
    time.sleep(1)
    target = cluster.others(leader)[i % 2]
    began_ns = time.monotonic_ns()
    cluster.transfer(target)
    run = load.end()
    since_ns, until_ns = longest_pause(run, began_ns, began_ns + 500_000_000)
    return (until_ns - since_ns) / 1e6, run["errors"], cluster.leader() is not leader


def measure_transfers(bench, is_wanted):
    """Leadership goes to another node on demand, under the load of 64 clients of all three."""
    name = "planned transfer: longest pause"
    if not is_wanted(name):
        return
    pauses = {}
    for make in (Etcd, bench.tutti):
        with make() as cluster:
            bench.fill(cluster)
            transfers = [transfer_leader(cluster, i) for i in range(TRANSFERS)]
            pauses[cluster.name] = [transfer[0] for transfer in transfers]
            print(f"  {cluster.name}: {TRANSFERS} transfers, {sum(not transfer[2] for transfer in transfers)} given up, "
                  f"{sum(transfer[1] for transfer in transfers)} writes refused", flush=True)
    for what, of_all in (("median", statistics.median), ("the longest of all", max)):
        yield report.absolute(f"{name}, {what}, ms", of_all(pauses["tutti"]), 50, "at most 50 ms", peer=of_all(pauses["etcd"]))


def measure_join(bench, is_wanted):
    """A fourth node joins and takes over the replica of a follower; clients are with the other two."""
    name = "node joins under load, takes a replica: p99 of the others, ms"
    if not is_wanted(name):
        return
    ratios, steady, joining = [], [], []
    for _ in range(bench.reps):
        with bench.tutti() as cluster:
            bench.fill(cluster)
            leader = cluster.leader()
            leaving, staying = cluster.others(leader)
            times = ("--time", "5000", "--warm-up", "500")
            steady.append(Load(cluster, "write", [leader, staying], *times).end()["p99_ms"])
            load = Load(cluster, "write", [leader, staying], *times)
            time.sleep(1)
            began = time.monotonic()
            cluster.replace(leaving)
            took = time.monotonic() - began
            run = load.end()
            joining.append(run["p99_ms"])
            print(f"  joined and in place after {took:.1f} s; {run['errors']} writes refused; the longest wait "
                  f"{run['longest_ms']:.0f} ms", flush=True)
            ratios.append(joining[-1] / steady[-1])
    yield report.compared(name + " (beside steady)", steady, joining, 2, True)


MEASUREMENTS = [measure_cells, measure_alone, measure_memory, measure_failovers, measure_transfers, measure_join]
