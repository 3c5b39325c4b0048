"""The operator as the process that it is, with a token of its own service account and the chart's roles."""

import json
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from helm_python import Chart

from tests.kubernetes.operator.kube import Kube
from tests.process import ROOT, Process

RELEASE = "op"
QUICK = {"NEXUS_AUTH_LOOK_SECONDS": "1", "NEXUS_AUTH_LEASE_SECONDS": "5", "NEXUS_AUTH_VERIFY_AFTER": "0"}


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
    return await token_of(kube, account)


async def token_of(kube: Kube, account: str) -> str:
    """A new token of a service account."""
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


class Operator(Process):
    """One process of `python -m services.reconciler.operator`."""

    def __init__(
        self, folder: Path, *, kubeconfig: Path, namespace: str, name: str = "operator", **environment: str
    ) -> None:
        """Watches one namespace, and holds its Lease there."""
        quick = {
            "KUBECONFIG": str(kubeconfig),
            "NEXUS_AUTH_WATCH_NAMESPACES": namespace,
            "NEXUS_AUTH_LEASE_NAMESPACE": namespace,
            "NEXUS_AUTH_HEALTH_PORT": "0",
            **QUICK,
        }
        super().__init__(folder, module="services.reconciler.operator", name=name, environment=quick | environment)

    async def leads(self) -> None:
        """Returns once it leads."""
        await self.said('"leading"')

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
