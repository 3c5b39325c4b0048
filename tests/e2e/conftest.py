"""One world and one release for the whole session: an install takes longer than most of what is asked of it."""

import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.cluster import Cluster
from tests.e2e.release import Release
from tests.e2e.world import World
from tests.e2e.world import world as make_world

collect_ignore_glob = [] if "E2E_HOST" in os.environ else ["test_*.py"]
"""`make test` has no cluster whose pods run; `make e2e` has, and says so by this variable."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster() -> Cluster:
    """The cluster that the kubeconfig's current context names, if tests may use it."""
    return await Cluster.open()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(cluster: Cluster) -> AsyncIterator[World]:
    """Namespace, Postgres, Clerk, Secrets."""
    host = os.environ.get("E2E_HOST")
    if not host:
        raise pytest.UsageError("E2E_HOST is not set: the address under which pods reach this machine")
    async with make_world(cluster, host=host, namespace=f"nexus-e2e-{secrets.token_hex(3)}") as made:
        yield made


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def release(world: World, tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The chart, installed with --wait."""
    folder: Path = tmp_path_factory.mktemp("release")
    made = Release(world, folder)
    await made.install()
    return made
