"""A release of the chart: installed, upgraded, rolled back, looked at."""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.cluster import CHART, Ran, until
from tests.e2e.load import Load
from tests.e2e.world import World

NAME = "nexus-auth"


def _is(item: Mapping[str, Any], condition: str) -> bool:
    conditions = item.get("status", {}).get("conditions", ())
    return any(of["type"] == condition and of["status"] == "True" for of in conditions)


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """`second` over `first`, as Helm merges values."""
    both = dict(first)
    for key, value in second.items():
        former = both.get(key)
        both[key] = merged(former, value) if isinstance(former, dict) and isinstance(value, dict) else value
    return both


@dataclass
class Release:
    """One release in a world's namespace."""

    world: World
    folder: Path

    def _file(self, values: Mapping[str, Any]) -> str:
        repository, _, tag = os.environ.get("E2E_IMAGE", "localhost/nexus-auth:e2e").rpartition(":")
        image = {"image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"}}
        file = self.folder / "values.json"
        file.write_text(json.dumps(merged(merged(image, self.world.values()), values)))
        return str(file)

    async def install(self, **values: Any) -> None:
        """helm install --wait, while the logins are made that the webhook waits for.

        The CRDs of a former run may still be there: --take-ownership.
        """
        installing = self._helm("install", values, "3m", more=("--take-ownership",))
        await asyncio.gather(installing, self.world.let_logins_in())

    async def upgrade(self, *, timeout: str = "2m", check: bool = True, **values: Any) -> Ran:
        """helm upgrade --wait."""
        return await self._helm("upgrade", values, timeout, check=check)

    async def rollback(self) -> None:
        """helm rollback --wait to the revision before."""
        await self._in_namespace("rollback", NAME, "--wait", "--timeout", "2m")

    async def test(self) -> Ran:
        """helm test."""
        return await self._in_namespace("test", NAME, "--timeout", "2m", "--logs")

    async def uninstall(self) -> Ran:
        """helm uninstall --wait."""
        return await self._in_namespace("uninstall", NAME, "--wait", "--timeout", "2m")

    async def pods_ready(self) -> bool:
        """Whether two pods of each service are there, and Ready."""
        pods = [*await self.pods("webhook"), *await self.pods("operator")]
        return len(pods) == 4 and all(_is(pod, "Ready") for pod in pods)

    async def in_sync(self) -> bool:
        """Whether the release's ClerkSync is there, and Ready."""
        world = self.world
        found = await world.cluster.kubectl("get", "clerksync", NAME, *world.where, "-o", "json", check=False)
        return found.code == 0 and _is(json.loads(found.out), "Ready")

    async def leader(self) -> str:
        """The operator's pod that leads, or nothing."""
        lease = await self.world.cluster.get("lease", f"{NAME}-operator", namespace=self.world.namespace)
        return str(lease["spec"].get("holderIdentity") or "").partition("_")[0]

    async def exec(self, pod: str, *command: str, stdin: str | None = None) -> str:
        """Runs a command in a pod; answers what it said."""
        ran = await self.world.cluster.kubectl("exec", "--stdin", pod, *self.world.where, "--", *command, stdin=stdin)
        return ran.out.strip()

    async def _helm(
        self, verb: str, values: Mapping[str, Any], timeout: str, *, check: bool = True, more: tuple[str, ...] = ()
    ) -> Ran:
        arguments = (verb, NAME, str(CHART), "--values", self._file(values), "--wait", "--timeout", timeout, *more)
        return await self._in_namespace(*arguments, check=check)

    async def _in_namespace(self, *arguments: str, check: bool = True) -> Ran:
        return await self.world.cluster.helm(*arguments, "--namespace", self.world.namespace, check=check)

    async def pods(self, component: str) -> list[dict[str, Any]]:
        """The component's pods that are not being deleted."""
        selector = f"app.kubernetes.io/instance={NAME},app.kubernetes.io/component={component}"
        items = await self.world.cluster.get("pods", namespace=self.world.namespace, selector=selector)
        return [item for item in items if "deletionTimestamp" not in item["metadata"]]

    async def incarnations(self, component: str) -> set[tuple[str, int]]:
        """Each pod's uid and how often its container was started again."""
        return {
            (pod["metadata"]["uid"], sum(of["restartCount"] for of in pod["status"].get("containerStatuses", ())))
            for pod in await self.pods(component)
        }

    async def url(self) -> str:
        """Where events are delivered to: the Service, on its node port."""
        cluster = self.world.cluster
        service = await cluster.get("service", f"{NAME}-webhook", namespace=self.world.namespace)
        (node, *_) = await cluster.get("nodes", selector="kubernetes.io/os=linux")
        address = next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
        return f"http://{address}:{service['spec']['ports'][0]['nodePort']}/webhooks/clerk"

    async def load(self, prefix: str, **settings: Any) -> Load:
        """Events with ids of their own, for this release, once pods of former revisions are gone."""
        world = self.world
        await until(self._settled, seconds=90, what="the end of former pods")
        return Load(await self.url(), world.signing[0], world.clerk.instance_id, prefix, **settings)

    async def _settled(self) -> bool:
        selector = f"app.kubernetes.io/instance={NAME},app.kubernetes.io/component=webhook"
        items = await self.world.cluster.get("pods", namespace=self.world.namespace, selector=selector)
        return not any("deletionTimestamp" in item["metadata"] for item in items)

    async def sync(self, request: str, *, seconds: float = 60) -> None:
        """Asks for a run, as `kubectl annotate` does, and waits until it is done."""
        await self.ask(request)
        await until(lambda: self.answered(request), seconds=seconds, what=f"the run that {request} asks for")

    async def answered(self, request: str) -> bool:
        """Whether the run that `request` asked for is done."""
        status = (await self.world.cluster.get("clerksync", NAME, namespace=self.world.namespace)).get("status", {})
        return bool(status.get("lastHandledSyncRequest") == request and status["lastSync"].get("completionTime"))

    async def ask(self, request: str) -> None:
        """Asks for a run."""
        await self.world.cluster.kubectl(
            *("annotate", "clerksync", NAME, *self.world.where, "--overwrite"),
            f"nexus-auth.dev/sync-requested-at={request}",
        )

    async def nudge(self, component: str) -> None:
        """Has the kubelet look at the pods now; by itself it refreshes mounted Secrets about once a minute."""
        for pod in await self.pods(component):
            await self.world.cluster.kubectl(
                *("annotate", "pod", pod["metadata"]["name"], "--namespace", self.world.namespace, "--overwrite"),
                f"nudged={os.urandom(4).hex()}",
            )
