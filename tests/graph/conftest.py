# SPDX-License-Identifier: Apache-2.0
"""What the graph tests share: a domain, processes per module, the walk as messages, logs of what failed."""

from collections.abc import Iterator

import pytest
from exact_node import known_walk
from footage import Footage
from harness import Graph, child_environment

from da3_core.synthetic import Walk
from da3_ros.demo.domain import free_domain
from da3_ros.demo.shared_memory import remove_abandoned_segments

GRAPH = pytest.StashKey[Graph]()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Show what the processes said when a test fails."""
    report = (yield).get_result()
    module = item.getparent(pytest.Module)
    graph = module.stash.get(GRAPH, None) if module else None
    if report.failed and graph is not None:
        for process in graph.processes:
            state = "" if process.alive else ", has ended"
            report.sections.append((f"log of {process.name}{state}", process.log_tail()))


@pytest.fixture(scope="session")
def domain_id() -> Iterator[int]:
    """A domain of this test run alone, which the listener in this process uses as the children do."""
    with free_domain() as domain, pytest.MonkeyPatch.context() as patch:
        for name, value in child_environment(domain).items():
            patch.setenv(name, value)
        yield domain


@pytest.fixture(scope="module")
def graph(
    domain_id: int, walk: Walk, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Graph]:
    """Nothing yet: a listener on the domain, and a place to start processes that end with the module.

    The walk is rendered before, since waiting for a process does not allow for that.
    """
    graph = request.node.stash[GRAPH] = Graph(domain_id, tmp_path_factory.mktemp("graph"))
    yield graph
    graph.close()
    remove_abandoned_segments()


@pytest.fixture(scope="session")
def walk() -> Walk:
    return known_walk()


@pytest.fixture(scope="module")
def footage(walk: Walk) -> Footage:
    return Footage(walk)
