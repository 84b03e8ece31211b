# SPDX-License-Identifier: Apache-2.0
import pytest

from harness import Node

SHOWN_BYTES_OF_A_LOG = 4000


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """With a failure comes what its nodes said last: their directories are gone by the time that somebody looks."""
    outcome = yield
    report = outcome.get_result()
    directory = item.funcargs.get("tmp_path") if hasattr(item, "funcargs") else None
    if call.when == "call" and report.failed and directory is not None:
        for log in sorted(directory.rglob("*.log")):
            text = log.read_text(encoding="utf-8", errors="replace")
            report.sections.append((str(log.relative_to(directory)), text[-SHOWN_BYTES_OF_A_LOG:]))


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
