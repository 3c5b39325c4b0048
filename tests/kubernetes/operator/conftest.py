"""A namespace with an operator's service account in it, a Clerk, a database, and manifests that join them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from devtools.clerk_emulator import Emulator
from devtools.postgres import Database
from tests.kubernetes.operator.kube import INSTANCES, SYNCS, Kube, client_of
from tests.kubernetes.operator.process import Operator, own_token, write_kubeconfig
from tests.reconcile.conftest import make_world  # noqa: F401 - a fixture
from tests.reconcile.world import World

NAME = "main"


class Stage:
    """Everything that a test of the operator stands on."""

    def __init__(self, kube: Kube, *, folder: Path, kubeconfig: Path, world: World) -> None:
        self.kube = kube
        self.folder = folder
        self.kubeconfig = kubeconfig
        self.world = world

    @property
    def clerk(self) -> Emulator:
        """The Clerk that it reads."""
        return self.world.clerk

    @property
    def database(self) -> Database:
        """The database that it keeps."""
        return self.world.database

    def operator(
        self,
        *,
        name: str = "operator",
        kubeconfig: Path | None = None,
        **environment: str,
    ) -> Operator:
        """A process, not started yet."""
        hosts = {"NEXUS_AUTH_API_HOSTS": self.clerk.api_url.partition("://")[2]}
        return Operator(
            self.folder,
            kubeconfig=kubeconfig or self.kubeconfig,
            namespace=self.kube.namespace,
            name=name,
            **(hosts | environment),
        )

    def stops_at(self, name: str) -> str:
        """A folder of failpoints: an operator that is given it stops at this one until `goes_on`."""
        folder = self.folder / "points"
        folder.mkdir(exist_ok=True)
        (folder / name).touch()
        return str(folder)

    def goes_on(self, name: str) -> None:
        """From that failpoint."""
        (self.folder / "points" / name).unlink()

    async def secrets(self) -> None:
        """The two Secrets that manifests name."""
        await self.kube.secret("clerk", secret_key=self.clerk.secret_key)
        await self.kube.secret("database", url=self.database.url("reconciler"))

    async def instance(self, name: str = NAME, **spec: Any) -> None:
        """A ClerkInstance."""
        await self.kube.create(INSTANCES, name, spec=self.instance_spec() | spec)

    async def sync(self, name: str = NAME, *, drift: str = "Fix", **spec: Any) -> None:
        """A ClerkSync."""
        await self.kube.create(SYNCS, name, spec=self.sync_spec(drift=drift) | spec)

    def instance_spec(self) -> dict[str, Any]:
        """What most instances say."""
        return {
            "apiUrl": self.clerk.api_url,
            "secretKeyRef": {"name": "clerk"},
            "environment": "Production",
            "budgetPercent": 100,
            "stateDatabase": {"secretRef": {"name": "database"}},
        }

    def sync_spec(self, *, drift: str = "Fix") -> dict[str, Any]:
        """What most syncs say."""
        return {
            "instanceRef": {"name": NAME},
            "database": {"secretRef": {"name": "database"}},
            "interval": "1h",
            "drift": {"policy": drift},
        }

    async def all(self, *, drift: str = "Fix", **spec: Any) -> None:
        """Secrets, an instance and a sync."""
        await self.secrets()
        await self.instance()
        await self.sync(drift=drift, **spec)

    async def ready(self, name: str = NAME) -> None:
        """Waits until the sync is in step."""
        await self.kube.condition(name, "Ready", "True")

    async def requested(self, token: str, name: str = NAME) -> Any:
        """Asks for a run and waits until it has been answered; answers the sync."""
        await self.kube.annotate(name, sync_requested_at=token)
        return await self.kube.until(
            SYNCS, name, lambda body: body["status"].get("lastHandledSyncRequest") == token, what=token
        )

    async def sweeps(self) -> list[tuple[int, str]]:
        """Every sweep: id and mode."""
        rows = await self.world.admin.fetch("select distinct sweep_id, mode from clerk_private.runs order by sweep_id")
        return [tuple(row) for row in rows]

    async def runs(self) -> list[tuple[int, str, str, int]]:
        """Every run: id, mode, state, epoch."""
        rows = await self.world.admin.fetch("select id, mode, state, epoch from clerk_private.runs order by id")
        return [tuple(row) for row in rows]


MakeStage = Callable[..., Awaitable[Stage]]


@pytest.fixture
async def kube(api_server: Any, namespace: str) -> AsyncIterator[Kube]:
    """The administrator, in the test's namespace."""
    client = await client_of(Path(api_server.kubeconfig))
    try:
        yield Kube(client, namespace=namespace)
    finally:
        await client.close()  # type: ignore[no-untyped-call]


@pytest.fixture
async def stage(
    kube: Kube,
    api_server: Any,
    make_world: Callable[..., Awaitable[World]],  # noqa: F811
    tmp_path: Path,
) -> AsyncIterator[Stage]:
    """Clerk with twenty users, three organizations and twelve memberships; an empty mirror."""
    async with AsyncExitStack():
        world = await make_world()
        kubeconfig = tmp_path / "kubeconfig"
        token = await own_token(kube, watch=[kube.namespace])
        write_kubeconfig(kubeconfig, admins=Path(api_server.kubeconfig), token=token)
        yield Stage(kube, folder=tmp_path, kubeconfig=kubeconfig, world=world)
