"""The operator as the process that it is, with a token of its own service account and the chart's roles."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml
from helm_python import Chart

from tests.kubernetes.operator.kube import SECONDS, Kube

ROOT = Path(__file__).parents[3]
RELEASE = "op"
QUICK = {"NEXUS_AUTH_LOOK_SECONDS": "1", "NEXUS_AUTH_LEASE_SECONDS": "3", "NEXUS_AUTH_VERIFY_AFTER": "0"}


def roles(namespace: str, *, watch: list[str], controller_class: str = "") -> list[Any]:
    """Service account, roles and bindings of the operator, as the chart has them."""
    values = {
        "webhook": {"enabled": False},
        "migrations": {"enabled": False},
        "watch": {"namespaces": watch},
    }
    files = Chart.load(ROOT / "deploy/helm/nexus-auth").render(values, name=RELEASE, namespace=namespace)
    wanted = ("operator/rbac.yaml", "operator/serviceaccount.yaml")
    return [
        document
        for name, text in files.items()
        if name.endswith(wanted)
        for document in yaml.safe_load_all(text)
        if document is not None
    ]


COLLECTIONS = {
    "ServiceAccount": "/api/v1/namespaces/{namespace}/serviceaccounts",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
}


async def own_token(kube: Kube, *, watch: list[str]) -> str:
    """Applies the roles and answers a token of the operator's service account."""
    account = ""
    for document in roles(kube.namespace, watch=watch):
        path = COLLECTIONS[document["kind"]].format(namespace=document["metadata"].get("namespace", kube.namespace))
        await kube.call("POST", path, document)
        if document["kind"] == "ServiceAccount":
            account = document["metadata"]["name"]
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"audiences": None, "expirationSeconds": 3600},
    }
    path = f"/api/v1/namespaces/{kube.namespace}/serviceaccounts/{account}/token"
    return str((await kube.call("POST", path, request))["status"]["token"])


def write_kubeconfig(file: Path, *, admins: Path, token: str, server: str | None = None) -> None:
    """The administrator's kubeconfig with another token, and perhaps another address."""
    config = yaml.safe_load(admins.read_text())
    config["users"] = [{"name": "operator", "user": {"token": token}}]
    for context in config["contexts"]:
        context["context"]["user"] = "operator"
    if server is not None:
        for cluster in config["clusters"]:
            cluster["cluster"] = {"server": server}
    file.write_text(yaml.safe_dump(config))
    file.chmod(0o600)


class Operator:
    """One process of `python -m services.reconciler.operator`. Usable as an async context manager."""

    def __init__(self, folder: Path, *, kubeconfig: Path, namespace: str, name: str = "operator", **environment: str):
        self.log = folder / f"{name}.log"
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "KUBECONFIG": str(kubeconfig),
            "NEXUS_AUTH_WATCH_NAMESPACES": namespace,
            "NEXUS_AUTH_LEASE_NAMESPACE": namespace,
            "NEXUS_AUTH_HEALTH_PORT": "0",
            "NEXUS_AUTH_ALLOW_FSYNC_OFF": "1",
            **QUICK,
            **environment,
        }
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "services.reconciler.operator"),
                env=self._environment,
                cwd=self.log.parent,
                stdout=log,
                stderr=log,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.kill()
        if kind is not None:
            print(self.log.read_text()[-6_000:])

    @property
    def process(self) -> asyncio.subprocess.Process:
        """It must have been started."""
        assert self._process is not None
        return self._process

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP, SIGCONT, SIGTERM."""
        self.process.send_signal(number)

    async def stop(self) -> float:
        """SIGTERM; answers how many seconds it took to end with exit code 0."""
        began = time.monotonic()
        self.process.terminate()
        async with asyncio.timeout(SECONDS):
            assert await self.process.wait() == 0, self.log.read_text()[-3_000:]
        return time.monotonic() - began

    async def kill(self) -> None:
        """SIGKILL."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    async def ended(self) -> int:
        """Its exit code."""
        async with asyncio.timeout(SECONDS):
            return await self.process.wait()

    async def leads(self) -> None:
        """Returns once it leads."""
        await self.said('"leading"')

    async def said(self, text: str) -> None:
        """Returns once the log holds this text."""
        await until(lambda: text in self.log.read_text(), what=lambda: f"{text!r} in {self.log.read_text()[-4_000:]}")

    @property
    def port(self) -> int:
        """Of its health server."""
        lines = [line for line in self.log.read_text().splitlines() if '"health_port"' in line]
        return int(json.loads(lines[-1])["health_port"])

    async def metrics(self) -> dict[str, float]:
        """Every sample by its name with labels."""
        async with aiohttp.ClientSession() as session:
            answer = await session.get(f"http://127.0.0.1:{self.port}/metrics")
            lines = (await answer.text()).splitlines()
        samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    async def ready(self) -> tuple[int, str]:
        """What /readyz answers."""
        async with aiohttp.ClientSession() as session:
            answer = await session.get(f"http://127.0.0.1:{self.port}/readyz")
            return answer.status, await answer.text()


async def until(true: Callable[[], Any], *, what: Callable[[], str], seconds: float = SECONDS) -> None:
    """Returns once `true()` is; it may be a coroutine function."""
    deadline = time.monotonic() + seconds
    while True:
        answer = true()
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer:
            return
        assert time.monotonic() < deadline, f"did not happen: {what()}"
        await asyncio.sleep(0.05)
