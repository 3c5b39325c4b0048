"""What a thousand ClerkSyncs cost an operator: its start, memory and CPU at rest, and how soon it acts upon a change.

All but a few are suspended: no database or Clerk is in the figures of the start and of the rest, only watching, holding
and telling. The few are in step with an emulator; a change of their spec is acted upon by a run, which is waited for.
The operator is the real process on a real API server, as the administrator.
"""

import asyncio
import base64
import json
import os
import ssl
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import yaml

from bench import cpu
from bench.emulator import API_KEY, Started, emulator
from devtools.kubernetes import Api, temporary_cluster
from devtools.postgres import Database, Server, create_database

ROOT = Path(__file__).parents[1]
OBJECTS = 1_000
LIVE = 4
"""Of them are not suspended."""
POPULATION = ("--users", "50", "--organizations", "3", "--memberships", "20")
SCHEDULED_GOAL = 10.0
REACTION_GOAL = 2.0
RSS_GOAL = 160.0
IDLE_GOAL = 2.0
VERSION = "nexus-auth.dev/v1alpha1"
NAMESPACE = "bench"
SYNCS = f"/apis/{VERSION}/namespaces/{NAMESPACE}/clerksyncs"
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
    operator_seconds: float
    server_seconds: float
    """CPU until then, of the operator and of the API server."""
    reactions: tuple[float, ...]
    """Seconds from a change of a spec to the status that tells of its run, one for each sync that is not suspended."""
    rss_mib: float
    idle_percent: float
    """Of one core."""

    def missed(self) -> str | None:
        """A sentence where a goal was missed."""
        figures = (
            ("all were scheduled after", self.scheduled_seconds, "s", SCHEDULED_GOAL),
            ("a change of a spec was acted upon after", max(self.reactions), "s", REACTION_GOAL),
            ("it kept", self.rss_mib, "MiB", RSS_GOAL),
            ("at rest it took", self.idle_percent, "% of a core", IDLE_GOAL),
        )
        sentences = [
            f"{what} {value:.1f} {unit}; the goal is {goal:g}" for what, value, unit, goal in figures if value > goal
        ]
        return f"operator: {'; '.join(sentences)}" if sentences else None


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What a kubeconfig says."""

    server: str
    token: str
    tls: ssl.SSLContext

    @classmethod
    def of(cls, kubeconfig: Path) -> "_Cluster":
        """Reads it."""
        config = yaml.safe_load(kubeconfig.read_text())
        at = config["clusters"][0]["cluster"]
        authority = base64.b64decode(at["certificate-authority-data"]).decode()
        return cls(at["server"], config["users"][0]["user"]["token"], ssl.create_default_context(cadata=authority))


async def measure(server: Server, template: Database, *, folder: Path, objects: int = OBJECTS) -> Resting:
    """Starts a cluster, an emulator and an operator. Raises `NotScheduled`."""
    with temporary_cluster() as cluster:
        admin = cluster.admin
        admin.install_definitions(ROOT / "crds")
        admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
        for number in range(objects - LIVE):
            admin.call("POST", SYNCS, _sync(f"resting-{number}", secret=f"database-{number}", suspend=True))
        async with emulator(*POPULATION, folder=folder) as clerk:
            _create_live(admin, server, template, clerk=clerk)
            hosts = clerk.url.partition("://")[2]
            return await _measure(admin, Path(cluster.kubeconfig), folder=folder, objects=objects, api_hosts=hosts)


async def _measure(admin: Api, kubeconfig: Path, *, folder: Path, objects: int, api_hosts: str) -> Resting:
    log = folder / "operator.log"
    cluster = _Cluster.of(kubeconfig)
    api_server = _pid_of("kube-apiserver", said=str(urlsplit(cluster.server).port))
    telling = asyncio.create_task(_all_told(cluster, objects))
    process = await _start(folder, kubeconfig=kubeconfig, log=log, api_hosts=api_hosts)
    try:
        began = await _said(log, '"leading"')
        server_before = cpu.of_process(api_server)
        scheduled = await telling - began
        operator_seconds = cpu.of_process(process.pid)
        server_seconds = cpu.of_process(api_server) - server_before
        await _until(lambda: all(_is_ready(admin, _live(number)) for number in range(LIVE)), what="first sweeps")
        await asyncio.sleep(SETTLE_SECONDS)
        before = cpu.of_process(process.pid)
        await asyncio.sleep(IDLE_SECONDS)
        idle = (cpu.of_process(process.pid) - before) / IDLE_SECONDS * 100
        rss = _resident(process.pid) / 2**20
        reactions = tuple([await _reaction(admin, _live(number)) for number in range(LIVE)])
        return Resting(objects, scheduled, operator_seconds, server_seconds, reactions, rss, idle)
    finally:
        process.terminate()
        await process.wait()


def _live(number: int) -> str:
    return f"live-{number}"


def _create_live(admin: Api, server: Server, template: Database, *, clerk: Started) -> None:
    """The syncs that run, each with a database of its own, and their instance."""
    databases = {}
    for number in range(LIVE):
        name = f"bench_{_live(number).replace('-', '_')}"
        create_database(server.admin_url(), name, template=template.name)
        databases[_live(number)] = template.of(name).url("reconciler")
    for secret, key, value in (("clerk", "secret-key", API_KEY), *((n, "url", url) for n, url in databases.items())):
        body = {"metadata": {"name": secret, "labels": {"nexus-auth.dev/readable": "true"}}, "stringData": {key: value}}
        admin.call("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", body)
    spec = {
        "apiUrl": clerk.url,
        "secretKeyRef": {"name": "clerk"},
        "environment": "Production",
        "budgetPercent": 100,
        "stateDatabase": {"secretRef": {"name": _live(0)}},
    }
    instance = {"apiVersion": VERSION, "kind": "ClerkInstance", "metadata": {"name": "main"}, "spec": spec}
    admin.call("POST", SYNCS.replace("clerksyncs", "clerkinstances"), instance)
    for name in databases:
        admin.call("POST", SYNCS, _sync(name, secret=name, suspend=False))


def _sync(name: str, *, secret: str, suspend: bool) -> dict[str, Any]:
    spec = {"instanceRef": {"name": "main"}, "database": {"secretRef": {"name": secret}}, "suspend": suspend}
    return {"apiVersion": VERSION, "kind": "ClerkSync", "metadata": {"name": name}, "spec": spec}


async def _start(folder: Path, *, kubeconfig: Path, log: Path, api_hosts: str) -> asyncio.subprocess.Process:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "KUBECONFIG": str(kubeconfig),
        "NEXUS_AUTH_LEASE_NAMESPACE": NAMESPACE,
        "NEXUS_AUTH_HEALTH_PORT": "0",
        "NEXUS_AUTH_VERIFY_AFTER": "0",
        "NEXUS_AUTH_API_HOSTS": api_hosts,
    }
    with log.open("wb") as file:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.reconciler.operator"), env=environment, cwd=folder, stderr=file
        )


async def _all_told(cluster: _Cluster, objects: int) -> float:
    """The moment when each has a status, by a watch: to list them again and again would be most of what is measured."""
    told: set[str] = set()
    try:
        async with (
            asyncio.timeout(PATIENCE),
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {cluster.token}"}, read_bufsize=2**20) as session,
            session.get(f"{cluster.server}{SYNCS}?watch=true", ssl=cluster.tls) as answer,
        ):
            async for line in answer.content:
                body = json.loads(line)["object"]
                if body.get("status", {}).get("observedGeneration", -1) == 1:
                    told.add(body["metadata"]["name"])
                if len(told) == objects:
                    return time.monotonic()
    except TimeoutError:
        pass
    raise NotScheduled(f"{len(told)} of {objects} have a status, and no more came")


def _resident(pid: int) -> int:
    """Bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _reaction(admin: Api, name: str) -> float:
    began = time.monotonic()
    admin.call("PATCH", f"{SYNCS}/{name}", {"spec": {"interval": "20m"}}, content="application/merge-patch+json")
    return await _until(lambda: _is_ready(admin, name, generation=2), what="the change's run", pause=0.02) - began


def _is_ready(admin: Api, name: str, *, generation: int = 1) -> bool:
    """Whether a run has proved this generation, and the status says so."""
    status = admin.call("GET", f"{SYNCS}/{name}").get("status", {})
    ready = next((of for of in status.get("conditions", ()) if of["type"] == "Ready"), None)
    proved = generation == 1 or status.get("lastSync", {}).get("reason") == "SpecChanged"
    return ready is not None and ready["status"] == "True" and ready["observedGeneration"] == generation and proved


def _pid_of(program: str, *, said: str) -> int:
    """The process of a program in whose command line something stands."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words[0].endswith(program) and any(said in word for word in words):
            return int(folder.name)
    raise NotScheduled(f"{program} is not to be found among the processes")


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
        f"Operator with {measured.objects:,} ClerkSyncs: all scheduled within {measured.scheduled_seconds:.1f} s of"
        f" leading (goal {SCHEDULED_GOAL:g}; CPU until then: operator {measured.operator_seconds:.1f} s, API server"
        f" {measured.server_seconds:.1f} s). At rest {measured.rss_mib:.0f} MiB resident (goal {RSS_GOAL:g}),"
        f" {measured.idle_percent:.1f} % of a core (goal {IDLE_GOAL:g}). A change of a spec is acted upon, run and"
        f" status included, after {statistics.median(measured.reactions):.2f} s, at most"
        f" {max(measured.reactions):.2f} s (goal {REACTION_GOAL:g})."
    )
