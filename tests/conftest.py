# SPDX-License-Identifier: Apache-2.0
import pytest

from harness import Node


@pytest.fixture
def make_node(tmp_path):
    """make_node(*arguments, **options): a node that is not started yet; all are ended with the test."""
    nodes = []

    def make(*arguments, name="data", **options):
        node = Node(tmp_path / name, arguments, **options)
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        if node.process is not None and node.process.poll() is None:
            node.kill()


@pytest.fixture
def node(make_node):
    """A running node with an empty data directory."""
    return make_node().start()
