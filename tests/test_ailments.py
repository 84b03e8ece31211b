# SPDX-License-Identifier: Apache-2.0
"""What operators, supervisors and load balancers are told when something is wrong, and what becomes of it."""
import errno
import os
import shutil
import time

import redis

from test_cluster import Cluster, cluster, three  # pylint: disable=unused-import
from test_durability import small_disk  # pylint: disable=unused-import
from test_operator import ask, four, tutti  # pylint: disable=unused-import
from test_shards import shards_of, wait_for


def verdict(node):
    return ask(node, "why")["verdict"]


def fill_up(directory):
    """Take all space that is left."""
    with open(directory / "filler", "wb", buffering=0) as filler:
        while True:
            try:
                filler.write(bytes(1 << 20))
            except OSError as error:
                assert error.errno == errno.ENOSPC
                return


def can_write(node):
    try:
        return node.client(socket_timeout=10).set("key", "value")
    except redis.RedisError:
        return False


def test_a_leader_with_a_full_disk_hands_over(tmp_path, small_disk):
    """Two of three have room: clients can write, and it is said whose disk is full."""
    (small_disk / "node1").mkdir()
    (tmp_path / "node1").symlink_to(small_disk / "node1")
    made = Cluster(tmp_path)
    try:
        for _ in range(3):
            made.add(memory="64mb")
        made.wait_for_voters(3)
        full, other = made.nodes[:2]
        made.ask("transfer", "1", "1")
        fill_up(small_disk)
        wait_for(lambda: verdict(other) == "serving, but the disk of node 1 is full", "it is said whose disk is full")
        wait_for(lambda: made.leader() is not full and can_write(other) and can_write(full), "others lead", seconds=30)
        assert tutti(other, "nodes").returncode == 1
        made.ask("transfer", "1", "1", node=other)
        wait_for(lambda: made.leader() is not full and can_write(full), "it does not stay there either", seconds=30)
        (small_disk / "filler").unlink()
        wait_for(lambda: verdict(other).startswith("healthy"), "all is well again")

        def leads_again():
            """Others may not have heard yet that it has room: then it is refused, or given away once more."""
            made.ask("transfer", "1", "1", node=other)
            return made.leader() is full and can_write(other)
        wait_for(leads_again, "it may lead again")
    finally:
        made.stop()


def test_a_node_without_a_majority_says_so(three):
    """It serves nobody, and what asks whether it does is told; what helps is named."""
    left = three.nodes[0]
    assert left.get("/readyz")[0] == 200
    for node in three.nodes[1:]:
        node.kill()
    wait_for(lambda: left.get("/readyz")[0] == 503, "it is not ready", seconds=20)
    status = tutti(left, "status")
    assert status.returncode == 1 and status.stdout.startswith("no leader: of 1 of 1 shards on this node none is known")
    wait_for(lambda: verdict(left) == "unavailable: no leader is known here; 1 of 3 nodes are alive", "who is dead is known")
    # Who is not alive is a suspect before it is dead.
    wait_for(lambda: "because node 2, which has a replica, is dead" in tutti(left, "why").stdout, "why is known", seconds=20)
    why = tutti(left, "why")
    assert why.returncode == 1 and "`tutti recover` on a node that is left" in why.stdout
    begun = time.monotonic()
    audit = ask(left, "audit")
    assert audit["may_be_old"] and [each["kind"] for each in audit["records"]].count("join") == 2, audit
    assert "later records may be missing" in tutti(left, "audit").stdout and time.monotonic() - begun < 10
    refused = tutti(left, "transfer", "1", "1")
    assert refused.returncode == 1 and "nobody leads shard 1" in refused.stderr
    three.nodes[1].start()
    wait_for(lambda: left.get("/readyz")[0] == 200 and ask(left, "status")["well"], "two of three serve", seconds=20)
    assert not ask(left, "audit")["may_be_old"]


def test_a_node_is_emptied_at_its_own_word(four):
    """Any node can be asked, also the one that is emptied, and has no replica of the first shard, which knows of it."""
    found = []

    def is_without_first():
        members = {each["node"] for shard in shards_of(four) if shard["id"] == 1 for each in shard["replicas"]}
        found[:] = {1, 2, 3, 4} - members
        return found

    wait_for(is_without_first, "a node has no replica of the first shard")  # It may be on its way to one.
    number = found[0]
    node = four.nodes[number - 1]
    drained = tutti(node, "drain", str(number), "--wait")
    assert drained.returncode == 0 and f"Node {number} is drained." in drained.stderr, drained
    wait_for(lambda: ask(node, "nodes")["nodes"][number - 1]["state"] == "drained", "it knows", seconds=10)
    assert tutti(node, "drain", str(number), "--cancel").returncode == 0
    wait_for(lambda: ask(node, "nodes")["nodes"][number - 1]["state"] == "active", "it knows that, too", seconds=10)


def test_what_is_not_there_is_not_well(three):
    for words, reason in ((("why", "9"), "there is no shard 9"), (("shards", "--node", "9"), "there is no node 9")):
        refused = tutti(three.nodes[1], *words)
        assert refused.returncode == 1 and reason in refused.stderr and refused.stdout == "", words


def rot(store):
    """A few bytes of each table are others now."""
    tables = [path for path in store.rglob("*.sst") if path.stat().st_size > 100_000]
    assert tables
    for path in tables:
        with open(path, "r+b") as table:
            for place in range(1000, path.stat().st_size // 2, 50_000):
                table.seek(place)
                byte = table.read(1)
                table.seek(place)
                table.write(bytes([byte[0] ^ 0xff]))


def test_a_damaged_store_is_not_served_and_the_node_is_made_anew(three):
    """It ends, with what to do; the others serve; an empty directory in its place gets everything back."""
    leader = three.leader()
    values = {f"key:{i}": os.urandom(1000) for i in range(3000)}
    assert leader.client(socket_timeout=30).mset(values)
    damaged = next(node for node in three.nodes[1:] if node is not leader)
    number = three.nodes.index(damaged) + 1
    client = leader.client()

    def has_all(shard):
        assert client.set("later", "1")  # By which a replica hears that what came before is committed.
        return all(each["lag_entries"] == 0 for each in shard["replicas"])

    three.wait(has_all, "all have everything", node=leader)
    assert damaged.stop() == 0
    rot(damaged.data / "store")
    damaged.launch()
    reads = redis.Redis(port=damaged.redis_port, socket_timeout=10)
    deadline = time.monotonic() + 60
    while damaged.process.poll() is None:
        assert time.monotonic() < deadline, damaged.log()
        try:  # What it answers before it has met the damage is right.
            reads.execute_command("READONLY")
            for key, value in values.items():
                assert reads.get(key) == value
        except redis.RedisError:
            time.sleep(0.05)
    assert damaged.process.poll() in (1, 3) and "empty directory and a new token" in damaged.log(), damaged.log()
    assert leader.client(socket_timeout=30).mget(values) == list(values.values())
    three.wait(lambda shard: shard["leader"] != 0, "a leader", node=leader)
    wait_for(lambda: ask(leader, "nodes")["nodes"][number - 1]["health"] in ("dead", "left"), "it is gone", seconds=30)
    assert "error" not in three.ask("remove", str(number), "--force", node=leader)
    shutil.rmtree(damaged.data)
    damaged.arguments[damaged.arguments.index("--token") + 1] = three.ask("token", node=leader)["token"]
    damaged.start()
    three.wait_for_voters(3, node=leader)
    reads = redis.Redis(port=damaged.redis_port, single_connection_client=True)
    reads.execute_command("READONLY")
    wait_for(lambda: reads.mget(values) == list(values.values()), "the new one has everything", seconds=20)
