"""The administrator's side of a test: objects applied, patched and waited for, on the real API server."""

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio.client import ApiClient, ApiException, Configuration
from kubernetes.aio.config.kube_config import load_kube_config

SECONDS = 90.0
SYNCS, INSTANCES = "clerksyncs", "clerkinstances"
OURS = "/apis/nexus-auth.dev/v1alpha1"


class Kube:
    """One client with the administrator's rights, in one namespace."""

    def __init__(self, client: ApiClient, *, namespace: str) -> None:
        self._client = client
        self.namespace = namespace

    async def call(self, method: str, path: str, body: Any = None, *, merge: bool = False) -> Any:
        """One request; answers the decoded JSON. Raises `ApiException`."""
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json" if merge else "application/json"
        answer = await self._client.call_api(
            method,
            self._client.configuration.host + path,
            header_params=headers | {"Authorization": self._client.configuration.api_key["BearerToken"]},
            body=body,
            _request_timeout=10.0,
        )
        text = await answer.read()  # type: ignore[no-untyped-call]
        if answer.status >= 400:
            raise ApiException(status=answer.status, reason=text.decode())
        return yaml.safe_load(text) if text else None

    def path(self, plural: str, name: str = "", *, sub: str = "") -> str:
        """Of an object or a collection in the test's namespace."""
        root = OURS if plural in (SYNCS, INSTANCES) else "/api/v1"
        if plural == "leases":
            root = "/apis/coordination.k8s.io/v1"
        return (
            f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "") + (f"/{sub}" if sub else "")
        )

    async def create(self, plural: str, name: str, **content: Any) -> Any:
        """A new object."""
        kind = {SYNCS: "ClerkSync", INSTANCES: "ClerkInstance", "secrets": "Secret"}[plural]
        version = "v1" if kind == "Secret" else "nexus-auth.dev/v1alpha1"
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **content}
        return await self.call("POST", self.path(plural), body)

    async def get(self, plural: str, name: str) -> Any:
        """One object."""
        return await self.call("GET", self.path(plural, name))

    async def patch(self, plural: str, name: str, change: Mapping[str, Any], *, sub: str = "") -> Any:
        """A merge patch."""
        return await self.call("PATCH", self.path(plural, name, sub=sub), dict(change), merge=True)

    async def delete(self, plural: str, name: str) -> None:
        """Deletes an object."""
        await self.call("DELETE", self.path(plural, name))

    async def secret(self, name: str, *, readable: bool = True, **data: str) -> None:
        """A Secret with these keys (underscores are dashes), new or replaced; `readable`: with the label."""
        metadata = {"name": name, "labels": {"nexus-auth.dev/readable": "true" if readable else None}}
        encoded = {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in data.items()}
        try:
            await self.create("secrets", name, metadata=metadata, data=encoded)
        except ApiException as error:
            if error.status != 409:
                raise
            await self.patch("secrets", name, {"metadata": metadata, "data": encoded})

    async def annotate(self, name: str, **annotations: str) -> None:
        """Annotations of a ClerkSync, without their prefix (underscores are dashes)."""
        ours = {f"nexus-auth.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        await self.patch(SYNCS, name, {"metadata": {"annotations": ours}})

    async def events(self, *, reason: str) -> list[Any]:
        """Events with a reason."""
        return [e for e in (await self.call("GET", self.path("events")))["items"] if e["reason"] == reason]

    async def condition(
        self, name: str, type_: str, status: str | None, *, reason: str | None = None, plural: str = SYNCS
    ) -> dict[str, Any]:
        """Waits until a condition of the object's present generation is so (None: is absent); answers it."""

        def is_so(body: Any) -> bool:
            found = condition_of(body, type_)
            if found is None or status is None:
                return found is None and status is None
            if found["observedGeneration"] != body["metadata"]["generation"]:
                return False
            return found["status"] == status and reason in (None, found["reason"])

        body = await self.until(plural, name, is_so, what=f"{type_}={status} {reason or ''}")
        return condition_of(body, type_) or {}

    async def until(self, plural: str, name: str, true: Callable[[Any], bool], *, what: str) -> Any:
        """Waits until something is true of an object; answers it."""
        deadline = time.monotonic() + SECONDS
        while True:
            body = await self.get(plural, name)
            if true(body):
                return body
            assert time.monotonic() < deadline, f"{what} did not come to be:\n{yaml.safe_dump(body.get('status'))}"
            await asyncio.sleep(0.05)


def condition_of(body: Any, type_: str) -> dict[str, Any] | None:
    """A condition of an object."""
    for condition in (body.get("status") or {}).get("conditions", ()):
        if condition["type"] == type_:
            return dict(condition)
    return None


async def client_of(kubeconfig: Path) -> ApiClient:
    """A client with the rights of a kubeconfig."""
    settings = Configuration()
    await load_kube_config(  # type: ignore[no-untyped-call]
        config_file=str(kubeconfig), client_configuration=settings, persist_config=False
    )
    return ApiClient(settings)
