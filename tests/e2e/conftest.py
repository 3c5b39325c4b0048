"""One world and one release for the whole session: an install takes longer than most of what is asked of it.

A run ends with what it measured; a test that fails shows pods, events and the services' last lines.
"""

import asyncio
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.cluster import Cluster, kubectl, until
from tests.e2e.figures import Figures
from tests.e2e.release import Release
from tests.e2e.world import World
from tests.e2e.world import world as make_world

collect_ignore_glob = [] if "E2E_HOST" in os.environ else ["test_*.py"]
"""`make test` has no cluster whose pods run; `make e2e` has, and says so by this variable."""

FIGURES = pytest.StashKey[Figures]()
NAMESPACE = pytest.StashKey[str]()
LOOKS = (
    ("get", "pods", "-o", "wide"),
    ("get", "events", "--sort-by=.lastTimestamp"),
    ("get", "events", "--sort-by=.lastTimestamp", "--all-namespaces", "--field-selector=involvedObject.kind=Node"),
    ("get", "endpointslices", "-o", "yaml"),
    ("get", "clerk", "-o", "yaml"),
    ("logs", "--selector=app.kubernetes.io/name=nexus-auth", "--prefix", "--tail=20", "--ignore-errors"),
)


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """What this run measures."""
    return pytestconfig.stash.setdefault(FIGURES, Figures())


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster() -> Cluster:
    """The cluster that the kubeconfig's current context names, if tests may use it."""
    return await Cluster.open()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(cluster: Cluster, pytestconfig: pytest.Config) -> AsyncIterator[World]:
    """Namespace, Postgres, Clerk, Secrets."""
    host = os.environ.get("E2E_HOST")
    if not host:
        raise pytest.UsageError("E2E_HOST is not set: the address under which pods reach this machine")
    namespace = f"nexus-e2e-{secrets.token_hex(3)}"
    pytestconfig.stash[NAMESPACE] = namespace
    async with make_world(cluster, host=host, namespace=namespace) as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def release(world: World, figures: Figures, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The chart, installed with --wait; its first ClerkSync is Ready."""
    folder: Path = tmp_path_factory.mktemp("release")
    made = Release(world, folder)

    async def measured(ready: Callable[[], Awaitable[bool]], what: str) -> None:
        figures.took(f"helm install to {what}", await until(ready, seconds=240, what=what))

    async with asyncio.TaskGroup() as together:
        together.create_task(made.install())
        together.create_task(measured(made.pods_ready, "all pods Ready"))
        together.create_task(measured(made.in_sync, "first ClerkSync Ready"))
    return made


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds what one would look at next to the report of a failure."""
    report = yield
    namespace = item.config.stash.get(NAMESPACE, None)
    if report.failed and call.excinfo is not None and namespace is not None:
        for look in LOOKS:
            command = [kubectl(), *look, "--namespace", namespace]
            said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            report.sections.append((f"kubectl {' '.join(look)}", said.stdout + said.stderr))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the figures."""
    lines = config.stash.get(FIGURES, Figures()).lines()
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.line(line)
