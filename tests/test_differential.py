# SPDX-License-Identifier: Apache-2.0
"""Claim: random commands are answered by tutti as redis-server answers them, byte for byte."""
import shutil

import pytest

import differential


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
@pytest.mark.parametrize("resp", [2, 3])
def test_replies_are_those_of_redis(node, resp):
    assert differential.main(["--seed", str(resp), "--count", "4000", "--resp", str(resp),
                              "--tutti", f"127.0.0.1:{node.redis_port}"]) == 0
