# SPDX-License-Identifier: Apache-2.0
"""Claim: keys that expire go away by themselves, on a running node and after a kill -9, and only then."""
import time

KEYS = 5000


def wait_until_empty(client, seconds):
    deadline = time.monotonic() + seconds
    while client.dbsize() > 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    return client.dbsize()


def set_many(client, milliseconds):
    pipeline = client.pipeline(transaction=False)
    for number in range(KEYS):
        pipeline.set(f"key:{number}", b"value", px=milliseconds)
    pipeline.execute()


def test_nobody_needs_to_ask_for_an_expired_key(node):
    client = node.client()
    set_many(client, 700)
    assert wait_until_empty(client, 15) == 0
    # Figures are published now and then.
    deadline = time.monotonic() + 15
    while client.info("stats")["expired_keys"] < KEYS and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client.info("stats")["expired_keys"] == KEYS


def test_what_expired_while_the_node_was_down_is_gone(node):
    client = node.client()
    set_many(client, 3000)
    client.set("lasting", b"1")
    client.hset("hash", mapping={"a": 1})
    client.pexpire("hash", 3000)
    began = time.monotonic()
    client.set("later", b"1", ex=1000)
    node.kill()
    time.sleep(3.1)
    node.start()
    client = node.client()
    assert client.get("key:1") is None
    assert client.exists("hash") == 0
    left = client.ttl("later")
    assert 1000 - (time.monotonic() - began) - 1 < left <= 1000
    client.delete("lasting", "later")
    assert wait_until_empty(client, 15) == 0


def test_expiry_is_exact_for_the_one_who_asks(node):
    client = node.client()
    for _ in range(20):
        client.set("k", b"1", px=30)
        seen = time.monotonic()
        while client.get("k") is not None:
            seen = time.monotonic()
        left = client.pttl("k")
        assert left == -2
        assert time.monotonic() - seen < 1.0
        assert client.set("k", b"2", nx=True)
