# SPDX-License-Identifier: Apache-2.0
"""Clients that do something all the time and write down what came of it.

    registers      SET with its options, GET, GETSET, DEL on few keys       checked by checkers.linearizable
    counters       INCRBY, GET                                              checked by checkers.counters, too
    transactions   MULTI of APPEND and GET, some with WATCH                 checked by checkers.transactions

Each client is a thread with one connection of redis-py, to some node; when it breaks the next one is to another node, maybe.
Registers and lists are used for some seconds, then new ones: a short history of a key is checked faster, and finds as much.
"""
import random
import threading
import time

import redis

from checkers.history import Refused, Unknown

from . import nodes

ANSWER_SECONDS_MAX = 5
CONNECT_SECONDS_MAX = 1
REST_SECONDS_MAX = 0.03
EPOCH_SECONDS = 5
SEPARATOR = ";"
COUNTER_PREFIX = "c"
# Errors that say that nothing was done. Of any other error that is not in the protocol's hands one cannot be sure.
REFUSALS = ("LOADING", "OOM", "EXECABORT", "CLUSTERDOWN", "TRYAGAIN")


def outcome_of(error):
    """What an error of redis-py says about the command: Refused, or Unknown."""
    if isinstance(error, (redis.exceptions.BusyLoadingError, redis.exceptions.ExecAbortError)):
        return Refused()
    if isinstance(error, redis.WatchError):
        # Also raised when the connection broke in EXEC while keys were watched, and then nobody knows.
        return Unknown() if "ConnectionError" in str(error) else Refused()
    if isinstance(error, redis.ResponseError) and str(error).startswith(REFUSALS):
        return Refused()
    return Unknown()


class Client(threading.Thread):
    def __init__(self, number, seed, cluster, recorder):
        super().__init__(name=f"client {number}", daemon=True)
        self.number = number
        self.dice = random.Random(f"{seed} client {number}")
        self.cluster = cluster
        self.recorder = recorder
        self.connection = None
        self.is_over = False
        self.crash = None
        self.started = time.monotonic()
        self.count = 0

    def run(self):
        try:
            while not self.is_over:
                if self.connect():
                    self.do_something()
                time.sleep(self.dice.uniform(0, REST_SECONDS_MAX))
        except Exception as error:  # pylint: disable=broad-except
            self.crash = error  # A mistake of ours: it fails the run.
        self.disconnect()

    def connect(self, node=None):
        if self.connection is not None:
            return True
        node = node or self.dice.choice(self.cluster.nodes)
        try:
            # The pool holds one connection, as the client does one thing at a time: that of this PING.
            self.connection = redis.Redis(node.address, nodes.REDIS_PORT, password=self.cluster.password,
                                          socket_timeout=ANSWER_SECONDS_MAX, decode_responses=True,
                                          socket_connect_timeout=CONNECT_SECONDS_MAX)
            self.connection.ping()
            return True
        except redis.RedisError:
            self.disconnect()
            return False

    def disconnect(self):
        if self.connection is not None:
            try:
                self.connection.connection_pool.disconnect()
            except (redis.RedisError, OSError):
                pass
        self.connection = None

    def epoch(self):
        return int((time.monotonic() - self.started) / EPOCH_SECONDS)

    def unique(self):
        self.count += 1
        return f"{self.number}.{self.count}"

    def record(self, action, key, arguments, function):
        """Call function(connection); what redis-py raises becomes an outcome."""
        def attempt():
            try:
                return function(self.connection)
            except redis.RedisError as error:
                if isinstance(error, (redis.ConnectionError, redis.TimeoutError, redis.WatchError)):
                    self.disconnect()
                raise outcome_of(error) from error
        return self.recorder.run(self.number, action, key, arguments, attempt)

    def do_something(self):
        raise NotImplementedError


class RegisterClient(Client):
    KEYS = 4

    def do_something(self):
        key = f"r{self.epoch()}-{self.dice.randrange(self.KEYS)}"
        action = self.dice.choices(["get", "set", "getset", "del"], [10, 10, 1, 1])[0]
        if action == "get":
            self.get(key)
        elif action == "getset":
            value = self.unique()
            self.record("getset", key, [value], lambda connection: connection.getset(key, value))
        elif action == "del":
            self.record("del", key, [], lambda connection: connection.delete(key))
        else:
            value = self.unique()
            options = self.dice.choice([(), (), (), ("NX",), ("XX",), ("GET",), ("XX", "GET")])
            self.record("set", key, (value,) + options, lambda connection: connection.set(
                key, value, nx="NX" in options, xx="XX" in options, get="GET" in options))

    def get(self, key):
        return self.record("get", key, [], lambda connection: connection.get(key))


class CounterClient(RegisterClient):
    KEYS = 3
    EPOCHS = 6

    def do_something(self):
        key = f"{COUNTER_PREFIX}{self.epoch() // self.EPOCHS}-{self.dice.randrange(self.KEYS)}"
        if self.dice.random() < 0.3:
            self.get(key)
        else:
            amount = self.dice.choice([1, 1, 1, 2, 10])
            self.record("incr", key, [amount], lambda connection: connection.incrby(key, amount))


class TransactionClient(Client):
    KEYS = 5
    EPOCHS = 2

    def do_something(self):
        epoch = self.epoch() // self.EPOCHS
        keys = [f"t{epoch}-{number}" for number in range(self.KEYS)]
        steps = [("append", self.dice.choice(keys), self.unique()) if self.dice.random() < 0.5
                 else ("read", self.dice.choice(keys)) for _ in range(self.dice.randrange(1, 5))]
        if self.dice.random() < 0.25:
            self.record_watched(self.dice.choice(keys), steps)
        else:
            self.record("txn", "", steps, lambda connection: self.transact(connection.pipeline(), steps))

    def record_watched(self, key, steps):
        """Read a list outside of MULTI, and append to it only if it is still so."""
        all_steps = [("read", key), ("append", key, self.unique())] + steps

        def watched(connection):
            pipeline = connection.pipeline()
            try:
                pipeline.watch(key)
                first = parse_list(pipeline.get(key))
            except redis.RedisError as error:
                # Nothing was written yet.
                self.disconnect()
                raise Refused from error
            pipeline.multi()
            return [first] + self.transact(pipeline, all_steps[1:])
        self.record("txn", "", all_steps, watched)

    @staticmethod
    def transact(pipeline, steps):
        for step in steps:
            if step[0] == "append":
                pipeline.append(step[1], SEPARATOR + step[2])
            else:
                pipeline.get(step[1])
        answers = pipeline.execute()
        return [None if step[0] == "append" else parse_list(answer) for step, answer in zip(steps, answers)]


def parse_list(text):
    return text.split(SEPARATOR)[1:] if text else []


KINDS = [RegisterClient, CounterClient, TransactionClient]


def read_everything(cluster, recorder, node):
    """After the end: one read of every key in the history, by a client of its own. Errors if that fails."""
    client = TransactionClient(1000, 0, cluster, recorder)
    history = recorder.history()
    registers = sorted({operation.key for operation in history if operation.key})
    lists = sorted({step[1] for operation in history if operation.action == "txn" for step in operation.arguments})
    if not client.connect(node):
        return f"no connection to {node.name} at the end"
    reads = []
    for key in registers:
        if client.connect(node):
            reads.append(client.record("get", key, [], lambda connection, key=key: connection.get(key)))
    for key in lists:
        if client.connect(node):
            steps = [("read", key)]
            reads.append(client.record("txn", "", steps, lambda connection, steps=steps: client.transact(
                connection.pipeline(), steps)))
    client.disconnect()
    failed = [str(read) for read in reads if read.outcome != "ok"]
    if len(reads) < len(registers) + len(lists):
        failed.append(f"{len(registers) + len(lists) - len(reads)} reads without a connection")
    return f"reads at the end failed: {'; '.join(failed[:3])}" if failed else None
