# SPDX-License-Identifier: Apache-2.0
"""One run of chaos; see tools/chaos."""
import argparse
import collections
import os
import pathlib
import random
import shutil
import signal
import sys
import time

from checkers import counters, history, linearizable, transactions

from . import nemesis, network, nodes, workloads

OUTPUT = nodes.ROOT / "build" / "chaos"
READY_SECONDS_MAX = 30
SMALL_DISK_MB = 512
SHOWN_VIOLATIONS_MAX = 3


class Claims:
    """What has to hold, counted."""

    def __init__(self, say):
        self.passed = 0
        self.failed = 0
        self.say = say

    def check(self, claim, problems):
        """`problems`: texts; none when the claim holds."""
        problems = [str(problem) for problem in problems if problem]
        if not problems:
            self.passed += 1
            self.say(f"holds   {claim}")
            return
        self.failed += 1
        self.say(f"FAILED  {claim}")
        for problem in problems[:SHOWN_VIOLATIONS_MAX]:
            self.say("  | " + problem.replace("\n", "\n  | "))
        if len(problems) > SHOWN_VIOLATIONS_MAX:
            self.say(f"  | and {len(problems) - SHOWN_VIOLATIONS_MAX} more")

    def close(self):
        """Print the last line; the exit code."""
        print(f"{self.passed} passed, {self.failed} failed")
        return 0 if self.failed == 0 else 1


def check_history(claims, operations):
    registers = [operation for operation in operations if operation.key]
    claims.check("each register and counter is linearizable", linearizable.check(registers))
    claims.check("counters count what was acknowledged, once", counters.check(
        [operation for operation in registers if operation.key.startswith(workloads.COUNTER_PREFIX)]))
    claims.check("transactions are strictly serializable", transactions.check(operations))


class Run:
    def __init__(self, options):
        self.options = options
        self.folder = OUTPUT / str(options.seed)
        nodes.remove_leftover_mounts()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.names = [f"n{number}" for number in range(1, options.nodes + 1)]
        self.dice = random.Random(f"{options.seed} {options.time} {options.nodes}")
        self.has_small_disks = self.dice.random() < 0.5
        self.schedule = nemesis.draw_schedule(self.dice, options.time, self.names, self.has_small_disks)
        self.network = network.Network(self.names + ["client"], options.seed)
        self.cluster = None
        self.clients = []
        self.recorder = history.Recorder()
        self.started = time.monotonic()
        self.transcript = open(self.folder / "transcript.txt", "w", encoding="utf-8")
        self.claims = Claims(self.say)

    def say(self, text):
        line = f"{time.monotonic() - self.started:7.2f}  {text}"
        print(line, flush=True)
        self.transcript.write(line + "\n")
        self.transcript.flush()

    def play(self):
        self.say(f"seed {self.options.seed}, {self.options.time} s, {self.options.nodes} nodes, "
                 f"{self.options.clients} clients, {len(self.schedule)} faults"
                 f"{', small disks' if self.has_small_disks else ''}")
        self.set_up()
        self.started = time.monotonic()
        reaper = nemesis.Nemesis(self.cluster, self.network, self.say)
        self.start_clients()
        self.carry_out(reaper)
        healed = self.heal()
        self.stop_clients()
        self.judge(reaper, healed)

    def set_up(self):
        network.remove_leftovers()
        self.network.create()
        disk_mb = SMALL_DISK_MB if self.has_small_disks else 0
        made = [nodes.Node(name, self.network, self.folder, disk_mb) for name in self.names]
        self.cluster = (nodes.RedisCluster if self.options.server == "redis" else nodes.TuttiCluster)(made)
        self.network.enter("client")
        self.cluster.form()
        self.say("all nodes are ready")

    def start_clients(self):
        for number in range(self.options.clients):
            kind = workloads.KINDS[number % len(workloads.KINDS)]
            self.clients.append(kind(number, self.options.seed, self.cluster, self.recorder))
        for client in self.clients:
            client.start()

    def carry_out(self, reaper):
        events = [(fault.begin, True, fault) for fault in self.schedule]
        events += [(fault.end, False, fault) for fault in self.schedule]
        for at, is_begin, fault in sorted(events, key=lambda event: event[0]):
            self.sleep_until(at)
            if is_begin:
                reaper.begin(fault)
            else:
                reaper.end(fault)
        self.sleep_until(self.options.time)

    def sleep_until(self, at):
        while True:
            left = self.started + at - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.2))
            for node in self.cluster.nodes:
                node.is_up()

    def heal(self):
        """Every fault has ended; start what ended by itself. What is wrong, or None."""
        for node in self.cluster.nodes:
            if not node.is_up():
                self.cluster.start(node)
        try:
            seconds = self.cluster.wait_ready(self.cluster.nodes, READY_SECONDS_MAX)
        except RuntimeError as error:
            return str(error)
        self.say(f"all nodes were ready {seconds:.2f} s after the last fault")
        # Once more the work of a while without faults, which has to succeed.
        time.sleep(2)
        return None

    def stop_clients(self):
        for client in self.clients:
            client.is_over = True
        for client in self.clients:
            client.join(workloads.ANSWER_SECONDS_MAX * 3)

    def judge(self, reaper, healed):
        reads = [healed or workloads.read_everything(self.cluster, self.recorder, node)
                 for node in self.cluster.nodes]
        operations = self.recorder.history()
        history.save(operations, self.folder / "history.jsonl")
        self.say_what_happened(operations)
        check = self.claims.check
        check("all nodes are ready again after the last fault", [healed])
        check("every key can be read at the end, at every node", reads)
        check("no node ended by itself", [death for node in self.cluster.nodes for death in node.deaths])
        check("clean restarts were clean", reaper.problems)
        check("clients worked to the end", [f"{client.name}: {client.crash!r}" for client in self.clients
                                            if client.crash] + self.idle_clients(operations))
        check_history(self.claims, operations)
        check("nodes stop cleanly", [node.stop() for node in self.cluster.nodes])

    def idle_clients(self, operations):
        """Who had no answer since the faults were over."""
        since = self.started + self.options.time
        answered = {operation.client for operation in operations
                    if operation.outcome == history.OK and operation.end > since * 1e9}
        return [f"{client.name} had no answer after the last fault" for client in self.clients
                if client.number not in answered]

    def say_what_happened(self, operations):
        counts = collections.Counter((operation.action, operation.outcome) for operation in operations)
        for action in sorted({action for action, _ in counts}):
            self.say(f"{action:<7} " + ", ".join(f"{counts[action, outcome]} {outcome}" for outcome in
                                                 (history.OK, history.FAIL, history.UNKNOWN)))

    def clean_up(self):
        for client in self.clients:
            client.is_over = True
        for node in self.cluster.nodes if self.cluster else []:
            node.destroy()
        self.network.destroy()
        self.transcript.close()


def main():
    parser = argparse.ArgumentParser(description="Run nodes through faults and check what clients saw.")
    parser.add_argument("--seed", type=int, default=None, help="draws the faults; random otherwise")
    parser.add_argument("--time", type=int, default=60, help="seconds of faults (60)")
    parser.add_argument("--nodes", type=int, default=None, help="nodes of the cluster (3)")
    parser.add_argument("--clients", type=int, default=15, help="clients (15)")
    parser.add_argument("--server", choices=["tutti", "redis"], default="tutti",
                        help="redis: without persistence, to see that the checks notice")
    parser.add_argument("--check", metavar="FILE", help="only check this history.jsonl")
    parser.add_argument("--keep", action="store_true", help="keep history and logs of a good run, too")
    options = parser.parse_args()
    if options.check:
        claims = Claims(print)
        check_history(claims, history.load(options.check))
        return claims.close()
    if options.nodes is None:
        options.nodes = 3 if options.server == "redis" or nodes.can_join() else 1
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1, 1000000)
    if os.geteuid() != 0:
        print("chaos: network namespaces need root", file=sys.stderr)
        print("0 passed, 1 failed")
        return 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Also where a shell had it ignored.
    run = Run(options)
    try:
        run.play()
    except (RuntimeError, OSError) as error:
        run.claims.check("the run went to its end", [error])
    except KeyboardInterrupt:
        run.claims.check("the run went to its end", ["interrupted"])
    finally:
        run.clean_up()
    if run.claims.failed:
        print(f"kept: {run.folder.relative_to(nodes.ROOT)}; again: "
              f"make chaos SEED={options.seed} TIME={options.time} NODES={options.nodes}")
    elif not options.keep:
        shutil.rmtree(run.folder)
    return run.claims.close()
