# SPDX-License-Identifier: Apache-2.0
"""Are the transactions of a history strictly serializable? In the manner of Elle (Kingsbury, Alvaro 2020).

An operation with the action `txn` is a transaction; its arguments are steps

    ("append", KEY, ID)    append ID to the list at KEY; an ID is appended once in a whole history
    ("read", KEY)          the list at KEY

and its result, when the outcome is `ok`, has an item for each step: None, or the list that was read. As lists only
grow, a list that was read tells in what order everything in it was appended. From this follow dependencies:

    ww    A appended to a list, and B was the next to append to it
    wr    A was the last to append to the list that B read
    rw    A read a list, and B was the next to append to it
    rt    A had ended before B began (real time)

If the transactions took effect one after the other, and each between its start and its end, there is no cycle in
these. A cycle is named by what it consists of, with `-realtime` when it needs rt:

    G0          ww only: writes of transactions are interleaved
    G1c         ww and wr: information flows in a circle
    G-single    with one rw: a transaction saw another one's state only in part
    G2          with several rw: write skew

And without cycles:

    G1a                 a read saw what a transaction appended that failed
    G1b                 a read saw a list in the middle of a transaction
    lost-append         an acknowledged append is in no read, though one began later
    lost-update         two transactions read the same state of a list and both appended to it
    incompatible-order  two reads of a list of which neither continues the other
    duplicate           an ID is in a list twice: something was executed twice
    phantom             an ID in a list that nobody appended
    internal            a transaction does not see its own appends, or sees two states of a list
"""
import collections

from . import history
from .history import short

# What a cycle may contain, the worst first: (name, dependencies, how many rw).
KINDS = [("G0", {"ww"}, 0), ("G1c", {"ww", "wr"}, 0), ("G-single", {"ww", "wr"}, 1), ("G2", {"ww", "wr", "rw"}, 2)]

EXAMPLES_MAX = 5  # Of each kind.
SEARCHES_MAX = 100  # For a short cycle in a knot.


class Anomaly:
    """`name` as above; `cycle` is [(transaction, dependency, why)], each depended on by the next, or empty."""

    def __init__(self, name, text, cycle=()):
        self.name = name
        self.text = text
        self.cycle = list(cycle)

    def __str__(self):
        return f"{self.name}: {self.text}"


def check(operations):
    """The anomalies of the history, a few of each kind, first those that are no cycles."""
    return _Check([operation for operation in operations if operation.action == "txn"]).run()


class _Transaction:
    def __init__(self, operation):
        self.operation = operation
        self.outcome = operation.outcome
        self.appends = collections.defaultdict(list)  # Key -> IDs in order.
        self.reads = []  # (key, list as the others left it): without its own appends before.
        self.is_seen = False

    def __str__(self):
        return f"T{self.operation.number}"


class _Check:
    def __init__(self, operations):
        self.transactions = [_Transaction(operation) for operation in operations]
        self.anomalies = []
        self.counts = collections.Counter()
        self.writer = {}  # (key, ID) -> transaction
        self.orders = {}  # key -> IDs in the order of their versions
        self.edges = collections.defaultdict(dict)  # from -> to -> {dependency: why}

    def report(self, name, parts, cycle=()):
        """`parts` of the text are made into it only when it is kept."""
        self.counts[name] += 1
        if self.counts[name] <= EXAMPLES_MAX:
            self.anomalies.append(Anomaly(name, "".join(part if isinstance(part, str) else short(part) if isinstance(
                part, list) else str(part) for part in parts), cycle))

    def run(self):
        for transaction in self.transactions:
            for step in transaction.operation.arguments:
                if step[0] == "append":
                    transaction.appends[step[1]].append(step[2])
                    self.writer[step[1], step[2]] = transaction
        for transaction in self.transactions:
            if transaction.outcome == history.OK:
                self.take_reads(transaction)
        self.find_orders()
        self.check_reads()
        self.find_lost_updates()
        self.add_dependencies()
        self.add_real_time()
        self.find_cycles()
        return self.anomalies

    # ---- what was read ---------------------------------------------------------------------------------

    def take_reads(self, transaction):
        """Each read less the transaction's own appends: what the others had done."""
        own = collections.defaultdict(list)
        seen = {}
        for step, result in zip(transaction.operation.arguments, transaction.operation.result):
            key = step[1]
            if step[0] == "append":
                own[key].append(step[2])
                continue
            read = list(result)
            if len(set(read)) != len(read):
                twice = sorted(item for item, count in collections.Counter(read).items() if count > 1)
                self.report("duplicate", [transaction.operation, f"\n  read {key} with {twice} in it more than once"])
            count = len(own[key])
            if count and read[-count:] != own[key]:
                self.report("internal", [transaction.operation, f"\n  read {key} as ", read, ", which does not end "
                                         "with what it had appended itself, ", own[key]])
                continue
            others = read[:len(read) - count]
            if key in seen and seen[key] != others:
                self.report("internal", [transaction.operation, f"\n  read {key} as ", seen[key], ", later as ", others])
                continue
            seen[key] = others
        transaction.reads = sorted(seen.items())

    def find_orders(self):
        """The longest list that was read of a key is the order of its versions; all others begin it."""
        longest = {}
        for transaction in self.transactions:
            for key, read in self.whole_reads(transaction):
                if len(read) > len(longest.get(key, (None, ()))[1]):
                    longest[key] = (transaction, read)
        for transaction in self.transactions:
            for key, read in self.whole_reads(transaction):
                other, order = longest.get(key, (None, []))
                if order[:len(read)] != read:
                    place = next(place for place, (one, two) in enumerate(zip(read, order)) if one != two)
                    self.report("incompatible-order", [
                        f"{key} was read as ", read, " by\n  ", transaction.operation, "\n  and as ", order, " by\n  ",
                        other.operation, f"\n  where item {place + 1} is {read[place]!r} and {order[place]!r}"])
        self.orders = {key: order for key, (_, order) in longest.items()}
        for key, order in self.orders.items():
            for item in order:
                if (key, item) in self.writer:
                    self.writer[key, item].is_seen = True

    @staticmethod
    def whole_reads(transaction):
        """(key, list) as read, with the transaction's own appends."""
        if transaction.outcome == history.OK:
            for step, result in zip(transaction.operation.arguments, transaction.operation.result):
                if step[0] == "read":
                    yield step[1], list(result)

    def check_reads(self):
        for transaction in self.transactions:
            for key, read in transaction.reads:
                for item in read:
                    writer = self.writer.get((key, item))
                    if writer is None:
                        self.report("phantom", [transaction.operation, f"\n  read {item} in {key}, which nobody "
                                                "appended there"])
                    elif writer.outcome == history.FAIL:
                        self.report("G1a", [transaction.operation, f"\n  read {item} in {key}, which was appended by ",
                                            writer.operation])
                if read and (key, read[-1]) in self.writer:
                    writer = self.writer[key, read[-1]]
                    if writer is not transaction and writer.appends[key][-1] != read[-1]:
                        self.report("G1b", [transaction.operation, f"\n  read {key} up to {read[-1]}, which is not the "
                                            "last that was appended by ", writer.operation])

    def find_lost_updates(self):
        groups = collections.defaultdict(list)
        for transaction in self.transactions:
            for key, read in transaction.reads:
                if transaction.appends[key]:
                    groups[key, tuple(read)].append(transaction)
        for (key, read), group in sorted(groups.items(), key=lambda item: (item[0][0], len(item[0][1]))):
            if len(group) > 1:
                parts = [f"{key} was read as ", list(read), " and appended to by each of"]
                for transaction in group:
                    parts += ["\n  ", transaction.operation]
                self.report("lost-update", parts)

    # ---- dependencies ----------------------------------------------------------------------------------

    def add(self, first, second, kind, why):
        if first is not second:
            self.edges[first].setdefault(second, {}).setdefault(kind, why)

    def is_in(self, transaction):
        """It took effect, as far as anybody knows."""
        return transaction.outcome == history.OK or (transaction.outcome == history.UNKNOWN and transaction.is_seen)

    def add_dependencies(self):
        positions = {key: {item: index for index, item in enumerate(order)} for key, order in self.orders.items()}
        unseen = collections.defaultdict(list)  # Appended for sure, so behind all that was read.
        for (key, item), writer in self.writer.items():
            if self.is_in(writer) and item not in positions.get(key, ()):
                unseen[key].append(item)
        for key, order in self.orders.items():
            for item, following in zip(order, order[1:]):
                self.add_ww(key, item, following)
        self.find_lost_appends(unseen)
        for transaction in self.transactions:
            for key, read in transaction.reads:
                self.add_read(transaction, key, read, positions.get(key, {}), unseen[key])

    def find_lost_appends(self, unseen):
        last_reader = {}
        for transaction in self.transactions:
            for key, _ in transaction.reads:
                if key not in last_reader or transaction.operation.start > last_reader[key].operation.start:
                    last_reader[key] = transaction
        for key, items in unseen.items():
            for item in items:
                writer = self.writer[key, item].operation
                reader = last_reader[key].operation if key in last_reader else None
                if reader and writer.outcome == history.OK and writer.end < reader.start:
                    self.report("lost-append", [writer, f"\n  was acknowledged, but {item} is in no read of {key}, such "
                                                "as that of\n  ", reader])

    def add_ww(self, key, item, following):
        if (key, item) in self.writer and (key, following) in self.writer:
            self.add(self.writer[key, item], self.writer[key, following], "ww",
                     f"appended {item} to {key} before {{0}} appended {following}")

    def add_read(self, reader, key, read, positions, unseen):
        if read and (key, read[-1]) in self.writer:
            self.add(self.writer[key, read[-1]], reader, "wr", f"appended {read[-1]} to {key}, which {{0}} read")
        order = self.orders.get(key, [])
        last = f"{read[-1]} last" if read else "nothing"
        position = positions.get(read[-1], -1) + 1 if read else 0
        # When its own append is the next, its ww says as much.
        followers = [order[position]] if position < len(order) else unseen
        for item in followers:
            if (key, item) in self.writer:
                self.add(reader, self.writer[key, item], "rw", f"read {key} with {last}, before {{0}} appended {item}")

    def add_real_time(self):
        """Edges from each transaction to those that began after its end, without those that follow from
        others: from a *frontier* of ended ones of which none had ended before another began."""
        events = []
        for transaction in self.transactions:
            if self.is_in(transaction):
                events.append((transaction.operation.start, 0, transaction))
                if transaction.outcome == history.OK:
                    events.append((transaction.operation.end, 1, transaction))
        events.sort(key=lambda event: event[:2])
        frontier = []
        for _, is_end, transaction in events:
            if is_end:
                frontier = [other for other in frontier if other.operation.end >= transaction.operation.start]
                frontier.append(transaction)
            else:
                for other in frontier:
                    self.add(other, transaction, "rt", "had ended before {0} began")

    # ---- cycles ----------------------------------------------------------------------------------------

    def find_cycles(self):
        """One example of each kind in each knot of transactions, without real time first."""
        for is_realtime in (False, True):
            for name, kinds, rw_count in KINDS:
                allowed = kinds | ({"rt"} if is_realtime else set())
                with_rw = allowed | ({"rw"} if rw_count else set())
                for knot in self.knots(with_rw):
                    if not any(set(knot) & set(node for node, _, _ in anomaly.cycle) for anomaly in self.anomalies):
                        cycle = self.find_cycle(knot, allowed, rw_count)
                        if cycle:
                            self.report(name + ("-realtime" if is_realtime else ""), [self.explain(cycle)], cycle)

    def targets(self, node, kinds):
        for target, labels in self.edges.get(node, {}).items():
            for kind in ("ww", "wr", "rw", "rt"):
                if kind in kinds and kind in labels:
                    yield target, kind, labels[kind]
                    break

    def knots(self, kinds):
        """Strongly connected components of more than one transaction (Tarjan, without recursion)."""
        index, low, on_stack, stack, knots = {}, {}, set(), [], []
        for root in self.transactions:
            if root in index:
                continue
            work = [(root, iter([target for target, _, _ in self.targets(root, kinds)]))]
            index[root] = low[root] = len(index)
            stack.append(root)
            on_stack.add(root)
            while work:
                node, targets = work[-1]
                for target in targets:
                    if target not in index:
                        index[target] = low[target] = len(index)
                        stack.append(target)
                        on_stack.add(target)
                        work.append((target, iter([after for after, _, _ in self.targets(target, kinds)])))
                        break
                    if target in on_stack:
                        low[node] = min(low[node], index[target])
                else:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[node])
                    if low[node] == index[node]:
                        knot = []
                        while not knot or knot[-1] is not node:
                            knot.append(stack.pop())
                            on_stack.remove(knot[-1])
                        if len(knot) > 1:
                            knots.append(knot[::-1])
        return knots

    def find_cycle(self, knot, kinds, rw_count):
        """A short cycle in the knot with `rw_count` dependencies rw (2: two or more), or None."""
        inside = set(knot)
        best = None
        first_kinds = {"rw"} if rw_count else kinds & {"ww", "wr"}
        firsts = [(node, kind, why, target) for node in knot for target, kind, why in self.targets(node, first_kinds)
                  if target in inside]
        for node, kind, why, target in firsts[:SEARCHES_MAX]:
            path = self.shortest_path(target, node, inside, kinds)
            if path is not None and (best is None or len(path) + 1 < len(best)):
                best = [(node, kind, why)] + path
                if len(best) == 2:
                    break
        return best

    def shortest_path(self, source, target, inside, kinds):
        """[(transaction, dependency, why)] from source up to, without, target."""
        came_from = {source: None}
        queue = collections.deque([source])
        while queue:
            node = queue.popleft()
            if node is target:
                break
            for after, kind, why in self.targets(node, kinds):
                if after in inside and after not in came_from:
                    came_from[after] = (node, kind, why)
                    queue.append(after)
        if target not in came_from:
            return None
        path = []
        step = came_from[target]
        while step is not None:
            path.append(step)
            step = came_from[step[0]]
        return path[::-1]

    @staticmethod
    def explain(cycle):
        lines = ["a cycle of"]
        lines += [f"  {node}: {node.operation}" for node, _, _ in cycle]
        lines.append("where")
        for (node, kind, why), (following, _, _) in zip(cycle, cycle[1:] + cycle[:1]):
            lines.append(f"  {node} {why.format(following)} ({kind})")
        return "\n".join(lines)
