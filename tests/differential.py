#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Sends the same random commands to a redis-server and to tutti, and compares the replies byte for byte.

Usage: tests/differential.py [--seed N] [--count N] [--resp 2|3] [--tutti HOST:PORT] [--verbose]

Starts redis-server and, unless --tutti names one, a node, both on free ports. The last line is
`N passed, N failed`, counted in commands; a difference is printed with the commands that led to it. A seed
repeats its commands exactly.

Accepted differences, each with its reason, are the functions named accept_<what> below and the table
UNORDERED; everything else must be equal.
"""
import argparse
import contextlib
import pathlib
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from harness import Node, free_ports  # noqa: E402

KEYS = [b"a", b"b", b"{a}c", b"{a}d", b"e", b"", b"\x00\xff\r\n", b"h1", b"h2", b"{h1}h3"]
FIELDS = [b"f", b"g", b"", b"\x00\n", b"field-of-some-length", b"1", b"n"]
VALUES = [b"", b"0", b"1", b"-1", b"42", b"3.5", b"-0.25", b"1e3", b"abc", b"\x00\xff\r\n", b"x" * 100, b" 1", b"01", b"inf",
          b"nan", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808", b"1.7976931348623157e308"]
INTEGERS = [b"0", b"1", b"-1", b"2", b"5", b"-5", b"100", b"-100", b"9223372036854775807", b"-9223372036854775808",
            b"9223372036854775808", b"abc", b"", b"1.5", b" 1", b"+1", b"-0", b"007"]
SECONDS = [b"1000", b"5000", b"100000", b"0", b"-1", b"-1000", b"9223372036854775807", b"-9223372036854775808",
           b"9223372036854775", b"9223372036854776", b"abc", b""]
MILLISECONDS = [b"1000000", b"5000000", b"0", b"-1", b"9223372036854775807", b"abc"]
FUTURE = [b"4102444800", b"4102444801", b"1", b"0", b"-5", b"abc", b"9223372036854775807"]
FUTURE_MS = [b"4102444800000", b"4102444801000", b"1", b"0", b"-5", b"abc", b"9223372036854775807"]
OFFSETS = [b"0", b"1", b"3", b"10", b"-1", b"536870912", b"9223372036854775807", b"abc"]
WORDS = [b"FOO", b"NX", b"XX", b"GET", b"EX", b"KEEPTTL", b"COUNT", b"MATCH", b"WITHVALUES", b""]


NOT_QUEUED = (b"OBJECT", b"MEMORY", b"CLIENT", b"CONFIG", b"SLOWLOG", b"LATENCY", b"ACL", b"MODULE", b"COMMAND", b"HELLO", b"RESET")


class Commands:
    """Makes random commands: mostly well-formed ones, sometimes with a word too many or too few."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.transaction = []  # What is left of one that was begun.
        self.makers = [getattr(self, name) for name in sorted(dir(self)) if name.startswith("make_")]

    def pick(self, *choices):
        return self.random.choice(choices)

    def one(self, pool):
        return self.random.choice(pool)

    def key(self):
        return self.one(KEYS)

    def keys(self, most=4):
        return [self.key() for _ in range(self.random.randint(1, most))]

    def maybe(self, *words):
        return list(words) if self.random.random() < 0.4 else []

    def next(self):
        if self.transaction:
            return self.transaction.pop(0)
        if self.random.random() < 0.03:
            return self.begin_transaction()
        return self.mutated(self.one(self.makers)())

    def begin_transaction(self):
        """Sometimes with a watched key, sometimes with one that changes before EXEC, sometimes discarded.

        Without subcommands: Redis refuses a wrong one when it is queued, tutti when it is executed; and without what tutti
        refuses there."""
        key = self.key()
        queued = [self.mutated(self.one(self.makers)()) for _ in range(self.random.randint(0, 6))]
        queued = [words for words in queued if words[0].upper() not in NOT_QUEUED]
        commands = self.maybe([b"WATCH", key]) + self.maybe(self.mutated(self.one(self.makers)()))
        commands += [[b"MULTI"]] + queued + [[self.pick(b"EXEC", b"EXEC", b"EXEC", b"DISCARD")]]
        commands += self.maybe([b"UNWATCH"]) + self.maybe([b"EXEC"])
        self.transaction = commands[1:]
        return commands[0]

    def mutated(self, command):
        chance = self.random.random()
        if chance < 0.02:
            command.insert(self.random.randint(1, len(command)), self.one(WORDS))
        elif chance < 0.04 and len(command) > 1:
            command.pop(self.random.randint(1, len(command) - 1))
        return [command[0].swapcase() if self.random.random() < 0.1 else command[0]] + command[1:]

    def expiry(self):
        return self.pick([b"EX", self.one(SECONDS)], [b"px", self.one(MILLISECONDS)], [b"EXAT", self.one(FUTURE)],
                         [b"PXAT", self.one(FUTURE_MS)])

    # Strings.
    def make_set(self):
        options = self.maybe(self.pick(b"NX", b"xx")) + self.maybe(b"GET")
        options += self.pick([], [], self.expiry(), [b"KEEPTTL"])
        self.random.shuffle(options) if self.random.random() < 0.1 else None
        return [b"SET", self.key(), self.one(VALUES)] + options

    def make_plain_set(self):
        return [b"SET", self.key(), self.one(VALUES)]

    def make_get(self):
        return [self.pick(b"GET", b"STRLEN", b"GETDEL"), self.key()]

    def make_set_variant(self):
        return self.pick([b"SETNX", self.key(), self.one(VALUES)], [b"GETSET", self.key(), self.one(VALUES)],
                         [b"SETEX", self.key(), self.one(SECONDS), self.one(VALUES)],
                         [b"PSETEX", self.key(), self.one(MILLISECONDS), self.one(VALUES)])

    def make_getex(self):
        return [b"GETEX", self.key()] + self.pick([], self.expiry(), [b"PERSIST"])

    def make_many(self):
        pairs = []
        for key in self.keys():
            pairs += [key, self.one(VALUES)]
        return self.pick([b"MSET"] + pairs, [b"MSETNX"] + pairs, [b"MGET"] + self.keys())

    def make_append(self):
        return [b"APPEND", self.key(), self.one(VALUES)]

    def make_count(self):
        return self.pick([b"INCR", self.key()], [b"DECR", self.key()], [b"INCRBY", self.key(), self.one(INTEGERS)],
                         [b"DECRBY", self.key(), self.one(INTEGERS)], [b"INCRBYFLOAT", self.key(), self.one(VALUES)])

    def make_range(self):
        return self.pick([b"GETRANGE", self.key(), self.one(INTEGERS), self.one(INTEGERS)],
                         [b"SUBSTR", self.key(), self.one(INTEGERS), self.one(INTEGERS)],
                         [b"SETRANGE", self.key(), self.one(OFFSETS), self.one(VALUES)])

    def make_lcs(self):
        return [b"LCS", self.key(), self.key()] + self.maybe(b"LEN") + self.maybe(b"IDX") + self.maybe(
            b"MINMATCHLEN", self.one(INTEGERS)) + self.maybe(b"WITHMATCHLEN")

    # Keys.
    def make_delete(self):
        return [self.pick(b"DEL", b"UNLINK")] + self.keys(2)

    def make_look(self):
        return self.pick([b"EXISTS"] + self.keys(), [b"TOUCH"] + self.keys(), [b"TYPE", self.key()], [b"DBSIZE"],
                         [b"PERSIST", self.key()])

    def make_expire(self):
        command = self.pick([b"EXPIRE", self.key(), self.one(SECONDS)], [b"PEXPIRE", self.key(), self.one(MILLISECONDS)],
                            [b"EXPIREAT", self.key(), self.one(FUTURE)],
                            [b"PEXPIREAT", self.key(), self.one(FUTURE_MS)])
        return command + self.maybe(self.pick(b"NX", b"XX", b"gt", b"LT")) + self.maybe(
            *self.random.sample([b"NX", b"XX", b"GT", b"LT"], 1))

    def make_time_left(self):
        return [self.pick(b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME"), self.key()]

    def make_rename(self):
        return [self.pick(b"RENAME", b"RENAMENX"), self.key(), self.key()]

    def make_copy(self):
        return [b"COPY", self.key(), self.key()] + self.maybe(b"REPLACE") + self.maybe(b"DB", b"0")

    def make_flush(self):
        if self.random.random() > 0.02:
            return [b"DBSIZE"]
        return [self.pick(b"FLUSHALL", b"FLUSHDB")] + self.pick([], [b"ASYNC"], [b"sync"], [b"FOO"])

    def make_object(self):
        return self.pick([b"OBJECT", b"REFCOUNT"], [b"OBJECT", b"FREQ", self.key()], [b"OBJECT", b"FOO", self.key()],
                         [b"MEMORY", b"USAGE"], [b"MEMORY", b"FOO"])

    def make_select(self):
        return [b"SELECT", self.pick(b"0", b"-1", b"99999999999", b"-2147483649", b"9223372036854775808", b"abc", b"")]

    def make_walk(self):
        return self.pick([b"KEYS", self.pick(b"*", b"h*", b"[a-b]", b"\\*", b"{a}?")],
                         [b"SCAN", b"0", b"COUNT", b"10000"] + self.maybe(b"MATCH", b"h*") + self.maybe(
                             b"TYPE", self.pick(b"string", b"hash", b"list")),
                         [b"SCAN", self.pick(b"abc", b"1.5", b" 1")], [b"SCAN", b"0", b"COUNT", b"0"])

    def make_encoding(self):
        return [b"OBJECT", b"ENCODING", self.key()]

    def make_unknown(self):
        words = [self.pick(b"x" * 200, b"a", b"\x00b", b"\r\n", b"", b"\xff") for _ in range(self.random.randint(0, 4))]
        return [self.pick(b"FOO", b"get2", b"\xffx\r\n", b"y" * 150, b"")] + words

    # About the connection and the server.
    def make_small(self):
        return self.pick([b"PING"], [b"PING", self.one(VALUES)], [b"PING", b"a", b"b"], [b"ECHO", self.one(VALUES)],
                         [b"TIME"], [b"LASTSAVE", b"x"], [b"WAIT", b"0", self.pick(b"0", b"10")],
                         [b"WAIT", self.one(INTEGERS), self.pick(b"-1", b"abc", b"")],
                         [b"AUTH", b"x"], [b"AUTH", b"default", b"x"], [b"AUTH", b"nobody", b"x"], [b"AUTH", b"a", b"b", b"c"],
                         [b"LASTSAVE"], [b"TIME", b"x"])

    def make_hello(self):
        options = self.pick([], [], [b"SETNAME", self.pick(b"me", b"a b", b"")], [b"SETNAME"], [b"AUTH", b"default"],
                            [b"AUTH", b"default", b"x"], [b"AUTH", b"nobody", b"x", b"SETNAME", b"n"], [b"FOO"])
        return [b"HELLO"] + self.pick([], [self.pick(b"2", b"3", b"3", b"1", b"4", b"abc", b"-1", b"9223372036854775808")] + options)

    def make_reset(self):
        return [b"RESET"] if self.random.random() < 0.1 else [b"DISCARD"]

    def make_client(self):
        name = self.pick(b"me", b"", b"a b", b"x\n", b"\xff", b"y" * 100)
        return [b"CLIENT"] + self.pick(
            [b"ID"], [b"GETNAME"], [b"SETNAME", name], [b"SETNAME"], [b"LIST", b"FOO"], [b"LIST", b"TYPE"],
            [b"LIST", b"TYPE", self.pick(b"normal", b"foo", b"replica")], [b"LIST", b"ID"], [b"LIST", b"ID", b"abc"],
            [b"LIST", b"ID", b"9999999"], [b"KILL"], [b"KILL", b"1.2.3.4:5"], [b"KILL", b"ID", self.pick(b"0", b"abc", b"999999")],
            [b"KILL", b"ADDR", b"1.2.3.4:5", b"SKIPME", self.pick(b"yes", b"NO", b"x")], [b"KILL", b"TYPE", b"foo"],
            [b"KILL", b"TYPE", b"master"], [b"KILL", b"USER", b"nobody"], [b"KILL", b"LADDR", b"1.2.3.4:5"], [b"KILL", b"ID", b"1", b"X"],
            [b"NO-EVICT", self.pick(b"on", b"OFF", b"x")], [b"UNBLOCK", self.one(INTEGERS)], [b"UNBLOCK", b"9", self.pick(b"ERROR", b"x")],
            [b"PAUSE", self.pick(b"0", b"-1", b"abc", b"")], [b"PAUSE", b"0", b"FOO"], [b"PAUSE", b"0", b"ALL", b"x"], [b"UNPAUSE"],
            [b"TRACKINGINFO"], [b"TRACKING", b"OFF"], [b"TRACKING", b"x"], [b"GETREDIR"], [b"CACHING", b"yes"], [b"REPLY", b"x"],
            [b"REPLY", b"ON"], [b"FOO"], [b"INFO"], [b"LIST"])

    def make_server(self):
        return self.pick(
            [b"CONFIG", b"SET"], [b"CONFIG", b"SET", b"nothing"], [b"CONFIG", b"SET", b"nothing", b"1"], [b"CONFIG", b"GET"],
            [b"CONFIG", b"SET", b"timeout", self.pick(b"-1", b"abc", b"99999999999")], [b"CONFIG", b"SET", b"timeout", b"0", b"x"],
            [b"CONFIG", b"SET", b"slowlog-max-len", self.pick(b"abc", b"64")], [b"CONFIG", b"GET", b"nothing"],
            [b"CONFIG", b"GET", self.pick(b"timeout", b"slowlog-max-le?", b"timeou[s-u]")], [b"CONFIG", b"FOO"],
            [b"CONFIG", b"SET", b"timeout", b"0", b"timeout", b"0"], [b"CONFIG", b"RESETSTAT"], [b"CONFIG", b"RESETSTAT", b"x"],
            [b"SLOWLOG", b"GET", self.pick(b"-2", b"abc", b"0")], [b"SLOWLOG", b"LEN", b"x"], [b"SLOWLOG", b"RESET"], [b"SLOWLOG", b"FOO"],
            [b"SLOWLOG", b"GET", b"1", b"2"], [b"LATENCY", b"RESET"], [b"LATENCY", b"HISTORY"], [b"LATENCY", b"HISTORY", b"command"],
            [b"LATENCY", b"LATEST"], [b"ACL", b"WHOAMI"], [b"ACL", b"WHOAMI", b"x"], [b"MODULE", b"LIST"], [b"MEMORY", b"PURGE"],
            [b"COMMAND", b"COUNT", b"x"], [b"COMMAND", b"GETKEYS"], [b"COMMAND", b"GETKEYS", b"FOO"], [b"COMMAND", b"FOO"],
            [b"COMMAND", b"GETKEYS"] + self.one(self.makers_of_keys())(), [b"COMMAND", b"LIST", b"FILTERBY", b"MODULE", b"x"],
            [b"COMMAND", b"GETKEYSANDFLAGS"] + self.one(self.makers_of_keys())(), [b"COMMAND", b"LIST", b"FILTERBY", b"x", b"y"],
            [b"COMMAND", b"INFO", b"nothing"], [b"COMMAND", b"DOCS", b"nothing"], [b"COMMAND", b"LIST", b"x"])

    def makers_of_keys(self):
        return [self.make_set, self.make_many, self.make_rename, self.make_copy, self.make_delete, self.make_hset, self.make_getex,
                self.make_lcs, self.make_expire, self.make_look, self.make_encoding, self.make_hrandfield]

    # Hashes.
    def hash(self):
        return self.one(KEYS[-3:]) if self.random.random() < 0.85 else self.key()

    def make_hset(self):
        pairs = []
        for _ in range(self.random.randint(1, 4)):
            pairs += [self.one(FIELDS), self.one(VALUES)]
        return [self.pick(b"HSET", b"HSET", b"HMSET"), self.hash()] + pairs

    def make_hget(self):
        fields = [self.one(FIELDS) for _ in range(self.random.randint(1, 3))]
        return self.pick([b"HGET", self.hash(), self.one(FIELDS)], [b"HMGET", self.hash()] + fields,
                         [b"HEXISTS", self.hash(), self.one(FIELDS)], [b"HSTRLEN", self.hash(), self.one(FIELDS)],
                         [b"HLEN", self.hash()])

    def make_hdel(self):
        return [b"HDEL", self.hash()] + [self.one(FIELDS) for _ in range(self.random.randint(1, 3))]

    def make_hall(self):
        return [self.pick(b"HGETALL", b"HKEYS", b"HVALS"), self.hash()]

    def make_hcount(self):
        return self.pick([b"HINCRBY", self.hash(), self.one(FIELDS), self.one(INTEGERS)],
                         [b"HINCRBYFLOAT", self.hash(), self.one(FIELDS), self.one(VALUES)],
                         [b"HSETNX", self.hash(), self.one(FIELDS), self.one(VALUES)])

    def make_hscan(self):
        return [b"HSCAN", self.hash(), self.pick(b"0", b"0", b"abc")] + self.maybe(b"MATCH", b"f*") + self.maybe(
            b"COUNT", self.pick(b"1000", b"0", b"abc"))

    def make_hrandfield(self):
        return [b"HRANDFIELD", self.hash()] + self.maybe(self.pick(b"100", b"0", b"abc", b"-9223372036854775808")) + \
            self.maybe(b"WITHVALUES")


class Connection:
    """Speaks the protocol itself, to see the bytes: no client library in between."""

    def __init__(self, address, version):
        self.socket = socket.create_connection(address, timeout=60)
        self.file = self.socket.makefile("rb")
        if version == 3:
            self.ask([b"HELLO", b"3"])

    def ask(self, words):
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
        return self.reply()

    def reply(self):
        """A reply as nested tuples (type, content); equal exactly when the bytes are."""
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise AssertionError(f"the connection ended: {line!r}")
        kind, text = line[:1], line[1:-2]
        if kind in b"$=" and int(text) >= 0:
            return kind, self.file.read(int(text) + 2)[:-2]
        if kind in b"*~%>" and int(text) >= 0:
            return kind, [self.reply() for _ in range(int(text) * (2 if kind == b"%" else 1))]
        return kind, text


# ---- accepted differences ---------------------------------------------------------------------------------

# Redis gives fields and keys in the order of its own hash tables (or of insertion, while a hash is small);
# tutti gives them in the order of its rows. The number says how many replies belong together.
UNORDERED = {b"KEYS": 1, b"HKEYS": 1, b"HVALS": 1, b"HGETALL": 2}


def in_groups(reply, size):
    kind, content = reply
    if kind not in (b"*", b"%", b"~"):
        return reply
    return kind, sorted(repr(content[i:i + size]) for i in range(0, len(content), size))


def accept_order(words, replies):
    """The order of keys and fields."""
    size = UNORDERED.get(words[0].upper())
    return size is not None and in_groups(replies[0], size) == in_groups(replies[1], size)


def accept_scan(words, replies):
    """The cursors and the order of SCAN and HSCAN; both are asked for everything in one go."""
    name = words[0].upper()
    if name not in (b"SCAN", b"HSCAN") or any(kind != b"*" for kind, _ in replies):
        return False
    size = 2 if name == b"HSCAN" else 1
    if replies[0][1][0] != (b"$", b"0") or replies[1][1][0] != (b"$", b"0"):
        return True  # One of them has not finished: how far a single call goes is its own affair.
    return in_groups(replies[0][1][1], size) == in_groups(replies[1][1][1], size)


def accept_random_order(words, replies):
    """HRANDFIELD gives random fields; how many, and of which type, must agree."""
    if words[0].upper() != b"HRANDFIELD":
        return False
    (left_kind, left), (right_kind, right) = replies
    return left_kind == right_kind and left_kind in b"$*~" and (left_kind == b"$" or len(left) == len(right))


def accept_clock(words, replies):
    """Both servers have their own clock; what they say of time may differ by a second."""
    if words[0].upper() not in (b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME"):
        return False
    if any(kind != b":" for kind, _ in replies):
        return False
    left, right = (int(text) for _, text in replies)
    tolerance = 1000 if words[0].upper().startswith(b"P") else 1
    return left > 0 and right > 0 and abs(left - right) <= tolerance


def accept_expired_count(words, replies):
    """Redis counts keys that were set with a time in the past until it notices; tutti has none of them."""
    return words[0].upper() == b"DBSIZE" and all(kind == b":" for kind, _ in replies) and \
        int(replies[0][1]) > int(replies[1][1])


def accept_any_cursor(words, replies):
    """Redis reads a cursor with strtoul(), which takes signs and no digits at all; tutti takes numbers."""
    return words[0].upper() in (b"SCAN", b"HSCAN") and replies[1] == (b"-", b"ERR invalid cursor") and any(
        re.fullmatch(rb"[+-]?[0-9]*", word) for word in words[1:3])


def accept_memory(words, replies):
    """MEMORY USAGE says what a key takes: there in memory, here on disk."""
    return [word.upper() for word in words[:2]] == [b"MEMORY", b"USAGE"] and all(
        kind == b":" and int(text) > 0 for kind, text in replies)


def accept_lower_case(words, replies):
    """Redis repeats the name of an unknown option or subcommand; only its case may differ."""
    return all(kind == b"-" for kind, _ in replies) and replies[0][1].lower() == replies[1][1].lower()


def accept_facts(words, replies):
    """Versions of the servers; which commands there are; numbers, addresses and ages of connections; times."""
    name = b"|".join(word.lower() for word in words[:2])
    kinds = [kind for kind, _ in replies]
    if words[0].upper() == b"HELLO" and kinds[0] == kinds[1] and kinds[0] in (b"*", b"%"):
        facts = [{name: value for (_, name), value in zip(inner[::2], inner[1::2]) if name not in (b"version", b"id")}
                 for _, inner in replies]
        return facts[0] == facts[1]
    return kinds[0] == kinds[1] and kinds[0] != b"-" and (
        words[0].upper() in (b"TIME", b"LASTSAVE") or len(words) == 1 and name == b"command" or name in (b"client|id", b"client|info", b"client|list"))


def accept_encoding(words, replies):
    """OBJECT ENCODING tells what Redis would choose at once: `raw` is what APPEND and the like made there, and `embstr` may be a
    whole number that INCRBYFLOAT made."""
    encodings = [text for _, text in replies]
    return [word.upper() for word in words[:2]] == [b"OBJECT", b"ENCODING"] and (
        encodings[0] == b"raw" and encodings[1] in (b"int", b"embstr") or
        encodings in ([b"embstr", b"int"], [b"hashtable", b"listpack"]))


def accept_hello(words, replies):
    """HELLO looks at all its options before it looks at the password, as Redis 7.2; 7.0 goes from left to right."""
    are_errors = all(kind == b"-" for kind, _ in replies)
    return words[0].upper() == b"HELLO" and are_errors and replies[0][1].startswith(b"WRONGPASS") and replies[1][1].startswith(
        b"ERR Syntax error in HELLO option")


ACCEPTED = [accept_facts, accept_hello, accept_encoding, accept_order, accept_scan, accept_random_order, accept_clock,
            accept_expired_count, accept_any_cursor, accept_memory, accept_lower_case]


def are_equal(words, replies, queued=()):
    """`queued`: the commands that an EXEC answers."""
    if replies[0] == replies[1] or any(accept(words, replies) for accept in ACCEPTED):
        return True
    if words != [b"EXEC"] or any(kind != b"*" or not isinstance(inner, list) for kind, inner in replies):
        return False
    return len(replies[0][1]) == len(replies[1][1]) == len(queued) and all(
        are_equal(inner_words, inner) for inner_words, *inner in zip(queued, replies[0][1], replies[1][1]))


# ---- running ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def redis_server():
    port = free_ports(1)[0]
    process = subprocess.Popen(["redis-server", "--port", str(port), "--save", "", "--appendonly", "no"],
                               stdout=subprocess.DEVNULL)
    try:
        for _ in range(1000):  # 20 seconds; it takes some milliseconds.
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.02)
        yield "127.0.0.1", port
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def tutti(address):
    if address is not None:
        host, port = address.rsplit(":", 1)
        yield host, int(port)
        return
    folder = tempfile.mkdtemp(prefix="tutti-differential-")
    try:
        with Node(pathlib.Path(folder) / "data") as node:
            yield "127.0.0.1", node.redis_port
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def show(words):
    return " ".join(re.sub(r"^b", "", repr(word)) for word in words)


def state_questions():
    """What tells the whole state of both, in commands that are compared like any other."""
    for key in sorted(set(KEYS)):
        yield from ([b"TYPE", key], [b"GET", key], [b"HGETALL", key], [b"PTTL", key])
    yield [b"DBSIZE"]


def compare(options, addresses):
    left, right = (Connection(address, options.resp) for address in addresses)
    for connection in (left, right):
        connection.ask([b"FLUSHALL"])
    commands = Commands(options.seed)
    recent = []
    queued = []
    passed = failed = 0
    for number in range(options.count):
        asked = [commands.next()]
        if number % 50 == 49 and not commands.transaction:
            asked += list(state_questions())
        for words in asked:
            replies = left.ask(words), right.ask(words)
            recent = recent[-15:] + [words]
            answered = queued
            if replies[0] == (b"+", b"QUEUED"):
                queued = queued + [words]
            elif words in ([b"MULTI"], [b"EXEC"], [b"DISCARD"]):
                queued = []
            if are_equal(words, replies, answered):
                passed += 1
                continue
            failed += 1
            if failed <= options.show:
                print(f"command {number}: {show(words)}\n  redis: {replies[0]}\n  tutti: {replies[1]}")
                if options.verbose:
                    print("".join(f"    before: {show(before)}\n" for before in recent[:-1]))
    print(f"{passed} passed, {failed} failed")
    return failed


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20000, help="random commands (default: %(default)s)")
    parser.add_argument("--resp", type=int, choices=(2, 3), default=2)
    parser.add_argument("--show", type=int, default=20, help="differences to print (default: %(default)s)")
    parser.add_argument("--tutti", metavar="HOST:PORT", help="a running node; its keys are deleted")
    parser.add_argument("--verbose", action="store_true", help="print what came before a difference")
    options = parser.parse_args(arguments)
    with redis_server() as redis_address, tutti(options.tutti) as tutti_address:
        return 1 if compare(options, (redis_address, tutti_address)) else 0


if __name__ == "__main__":
    sys.exit(main())
