"""What a thousand ClerkSyncs cost an operator that has nothing to do: memory, CPU, start, reaction to a change.

The syncs are suspended: no database or Clerk is in the figures, only watching, holding and telling. The operator is the
real process on a real API server, as the administrator.
"""

import asyncio
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import cpu
from devtools.kubernetes import Api, temporary_cluster

ROOT = Path(__file__).parents[1]
OBJECTS = 1_000
NAMESPACE = "bench"
SYNCS = f"/apis/nexus-auth.dev/v1alpha1/namespaces/{NAMESPACE}/clerksyncs"
SETTLE_SECONDS = 30.0
"""kopf's workers for each object end meanwhile."""
IDLE_SECONDS = 15.0
PATIENCE = 120.0


class NotScheduled(Exception):
    """Something did not happen in time; the text says what."""


@dataclass(frozen=True, slots=True)
class Resting:
    """Of one operator with so many objects."""

    objects: int
    scheduled_seconds: float
    """From leading to the last object's first status."""
    reaction_seconds: float
    """From a change of a spec to the status that knows of it."""
    rss_mib: float
    idle_percent: float
    """Of one core."""


async def measure(*, folder: Path, objects: int = OBJECTS) -> Resting:
    """Starts a cluster and an operator. Raises `NotScheduled`."""
    with temporary_cluster() as cluster:
        admin = cluster.admin
        admin.install_definitions(ROOT / "crds")
        admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        for number in range(objects):
            admin.call("POST", SYNCS, _sync(number))
        log = folder / "operator.log"
        process = await _start(folder, kubeconfig=Path(cluster.kubeconfig), log=log)
        try:
            began = await _said(log, '"leading"')
            scheduled = await _until(lambda: _told(admin) == objects, what="a status for each") - began
            await asyncio.sleep(SETTLE_SECONDS)
            before = cpu.of_process(process.pid)
            await asyncio.sleep(IDLE_SECONDS)
            idle = (cpu.of_process(process.pid) - before) / IDLE_SECONDS * 100
            rss = _resident(process.pid) / 2**20
            return Resting(objects, scheduled, await _reaction(admin), rss, idle)
        finally:
            process.terminate()
            await process.wait()


def _sync(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "nexus-auth.dev/v1alpha1",
        "kind": "ClerkSync",
        "metadata": {"name": f"sync-{number}"},
        "spec": {
            "instanceRef": {"name": "main"},
            "database": {"secretRef": {"name": f"database-{number}"}},
            "suspend": True,
        },
    }


async def _start(folder: Path, *, kubeconfig: Path, log: Path) -> asyncio.subprocess.Process:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "KUBECONFIG": str(kubeconfig),
        "NEXUS_AUTH_LEASE_NAMESPACE": NAMESPACE,
        "NEXUS_AUTH_HEALTH_PORT": "0",
    }
    with log.open("wb") as file:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.reconciler.operator"), env=environment, cwd=folder, stderr=file
        )


def _told(admin: Api) -> int:
    items = admin.call("GET", SYNCS)["items"]
    return sum(item.get("status", {}).get("observedGeneration", -1) == 1 for item in items)


def _resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _reaction(admin: Api) -> float:
    began = time.monotonic()
    patch = {"spec": {"interval": "20m"}}
    admin.call("PATCH", f"{SYNCS}/sync-7", patch, content="application/merge-patch+json")
    known = lambda: admin.call("GET", f"{SYNCS}/sync-7")["status"]["observedGeneration"] == 2  # noqa: E731
    return await _until(known, what="the change's status", pause=0.02) - began


async def _said(log: Path, text: str) -> float:
    return await _until(lambda: text in log.read_text(), what=f"{text} in its log", pause=0.02)


async def _until(true: Any, *, what: str, pause: float = 0.2) -> float:
    deadline = time.monotonic() + PATIENCE
    while not true():
        if time.monotonic() > deadline:
            raise NotScheduled(f"{what} did not come within {PATIENCE:.0f} s")
        await asyncio.sleep(pause)
    return time.monotonic()


def words(measured: Resting) -> str:
    """For people."""
    return (
        f"Operator with {measured.objects:,} ClerkSyncs at rest: {measured.rss_mib:.0f} MiB resident,"
        f" {measured.idle_percent:.1f} % of a core; all told within {measured.scheduled_seconds:.1f} s of leading;"
        f" a change of a spec known after {measured.reaction_seconds:.2f} s."
    )
