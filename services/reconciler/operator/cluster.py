"""The API server, as little of it as an operator needs: custom resources and their status, Secrets, Events, Leases.

Every call has a deadline. A refusal becomes one of four errors: somebody else changed the object, it does not exist,
our role forbids it, or the server cannot be reached.
"""

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp
from kubernetes.aio.client import (
    ApiClient,
    ApiException,
    Configuration,
    CoordinationV1Api,
    CoreV1Api,
    CustomObjectsApi,
)

from services.reconciler.manifests import GROUP
from services.reconciler.operator import access
from services.reconciler.operator.metrics import OperatorMetrics

VERSION = "v1alpha1"
INSTANCES = "clerkinstances"
SYNCS = "clerksyncs"
KINDS = {INSTANCES: "ClerkInstance", SYNCS: "ClerkSync"}

READABLE = f"{GROUP}/readable"
READABLE_SELECTOR = f"{READABLE}=true"
"""The label by which a Secret consents to be read. No other Secret's content reaches this process."""

REQUEST_SECONDS = 10.0
PAGE = 100
"""Objects per list request. One request for all of them would need memory that is never needed again."""

Object = dict[str, Any]
T = TypeVar("T")


class Changed(Exception):
    """Somebody else changed the object after we read it."""


class Gone(Exception):
    """The object, or its kind, does not exist."""


class Forbidden(Exception):
    """Our role does not allow the request."""


class Unreachable(Exception):
    """The API server gave no usable answer; the same call may succeed later."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A Secret's content. Its repr shows none of it."""

    resource_version: str
    data: Mapping[str, bytes]

    def __repr__(self) -> str:
        """The version only."""
        return f"Secret({self.resource_version!r})"


class Cluster:
    """One client of the API server."""

    def __init__(self, settings: Configuration, *, namespaces: tuple[str, ...], metrics: OperatorMetrics) -> None:
        """`namespaces` are those that are watched; empty means all."""
        self._settings = settings
        self._client = ApiClient(settings)
        self._objects = CustomObjectsApi(self._client)
        self._core = CoreV1Api(self._client)
        self._leases = CoordinationV1Api(self._client)
        self._metrics = metrics
        self.namespaces = namespaces

    async def close(self) -> None:
        """Closes its connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def objects(self, plural: str) -> list[Object]:
        """All objects of a kind in the watched namespaces. Raises `Gone` where the kind does not exist."""
        found: list[Object] = []
        for namespace in self.namespaces or (None,):
            after: str | None = None
            while True:
                page = await self._page(plural, namespace=namespace, after=after)
                found += [_small(item) for item in page["items"]]
                after = page["metadata"].get("continue")
                if not after:
                    break
        return found

    async def _page(self, plural: str, *, namespace: str | None, after: str | None) -> Any:
        more: dict[str, Any] = {"limit": PAGE, **_T} | ({"_continue": after} if after else {})
        if namespace is None:
            return await self._call(
                "list",
                lambda: self._objects.list_cluster_custom_object(GROUP, VERSION, plural, **more),
            )
        return await self._call(
            "list",
            lambda: self._objects.list_namespaced_custom_object(GROUP, VERSION, namespace, plural, **more),
        )

    async def get(self, plural: str, *, namespace: str, name: str) -> Object:
        """One object. Raises `Gone`."""
        found: Any = await self._call(
            "get", lambda: self._objects.get_namespaced_custom_object(GROUP, VERSION, namespace, plural, name, **_T)
        )
        return _small(found)

    async def replace_status(self, plural: str, body: Object) -> Object:
        """Writes an object's status under its resourceVersion. Raises `Changed`, `Gone`."""
        at = body["metadata"]
        found: Any = await self._call(
            "replace",
            lambda: self._objects.replace_namespaced_custom_object_status(
                GROUP, VERSION, at["namespace"], plural, at["name"], body, **_T
            ),
        )
        return _small(found)

    async def secret(self, namespace: str, name: str) -> Secret | None:
        """A Secret's content; None where no Secret of that name carries the label.

        The server selects by label, so that the content of a Secret without it is never sent. A list of one name needs
        no more than a rule with `resourceNames` allows.
        """
        listed: Any = await self._call(
            "list",
            lambda: self._core.list_namespaced_secret(
                namespace, field_selector=f"metadata.name={name}", label_selector=READABLE_SELECTOR, limit=1, **_T
            ),
        )
        if not listed.items:
            return None
        found = listed.items[0]
        data: dict[str, bytes] = {}
        for key, value in (found.data or {}).items():
            try:
                data[key] = value if isinstance(value, bytes) else base64.b64decode(value)
            except (binascii.Error, ValueError):
                data[key] = b""
        return Secret(found.metadata.resource_version, data)

    async def create_event(self, namespace: str, body: Any) -> None:
        """Raises `Changed` where an Event of that name exists."""
        await self._call("create", lambda: self._core.create_namespaced_event(namespace, body, **_T))

    async def patch_event(self, namespace: str, name: str, body: Object) -> int:
        """Merges a change into an Event; returns its count."""
        found = await self._call(
            "patch",
            lambda: self._core.patch_namespaced_event(
                name, namespace, body, _content_type="application/merge-patch+json", **_T
            ),
        )
        return int(found.count or 0)

    async def lease(self, namespace: str, name: str) -> Any:
        """A Lease. Raises `Gone`."""
        return await self._call("get", lambda: self._leases.read_namespaced_lease(name, namespace, **_T))

    async def create_lease(self, namespace: str, body: Any) -> Any:
        """Raises `Changed` where it exists."""
        return await self._call("create", lambda: self._leases.create_namespaced_lease(namespace, body, **_T))

    async def replace_lease(self, namespace: str, name: str, body: Any) -> Any:
        """Raises `Changed` where somebody else wrote it first."""
        return await self._call("replace", lambda: self._leases.replace_namespaced_lease(name, namespace, body, **_T))

    async def leases(self, *, namespace: str | None, label: str) -> list[Any]:
        """Leases with a label, in one namespace or in all. Raises `Forbidden`."""
        if namespace is None:
            found = await self._call(
                "list", lambda: self._leases.list_lease_for_all_namespaces(label_selector=label, **_T)
            )
        else:
            found = await self._call(
                "list", lambda: self._leases.list_namespaced_lease(namespace, label_selector=label, **_T)
            )
        return list(found.items)

    async def _call(self, verb: str, request: Callable[[], Awaitable[T]], *, again: bool = True) -> T:
        try:
            async with asyncio.timeout(REQUEST_SECONDS + 2):
                answer = await request()
        except ApiException as error:
            self._metrics.requests.labels(verb, str(error.status)).inc()
            if error.status == 401 and again:
                await access.renew(self._settings)
                return await self._call(verb, request, again=False)
            raise _meaning(error) from None
        except (aiohttp.ClientError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            self._metrics.requests.labels(verb, "none").inc()
            raise Unreachable(f"the API server cannot be reached ({type(error).__name__})") from None
        self._metrics.requests.labels(verb, "200").inc()
        return answer


_T: dict[str, Any] = {"_request_timeout": REQUEST_SECONDS}


def _meaning(error: ApiException) -> Exception:
    if error.status == 409:
        return Changed(str(error.reason))
    if error.status == 404:
        return Gone(str(error.reason))
    if error.status == 403:
        return Forbidden(str(error.reason))
    return Unreachable(f"the API server answered {error.status}")


def _small(body: Any) -> Object:
    """The object without managed fields, owners and foreign annotations: most of its bytes, and never read here."""
    kept: Object = dict(body)
    kept["metadata"] = {
        key: value for key, value in body["metadata"].items() if key not in ("managedFields", "ownerReferences")
    }
    annotations = kept["metadata"].get("annotations")
    if annotations:
        kept["metadata"]["annotations"] = {
            key: value for key, value in annotations.items() if key.startswith(f"{GROUP}/")
        }
    return kept
