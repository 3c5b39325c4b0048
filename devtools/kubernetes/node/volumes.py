"""What a pod's volumes hold, kept in a folder of the pod's own as a kubelet keeps it.

A changed Secret appears all at once: files lie in a folder that the link `..data` names, and the link is replaced.
"""

import base64
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from devtools.kubernetes.api import Api, ApiError

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod's token is mounted."""

TOKEN_SECONDS = 3_600
RENEW_SECONDS = 1_800.0

Files = dict[str, bytes]


class Missing(Exception):
    """A pod names what is not there, or what this node cannot give; the text says which."""


class Volumes:
    """The volumes of one pod. Call `write` again and again: it changes only what has changed."""

    def __init__(self, pod: Mapping[str, Any], *, folder: Path, api: Api) -> None:
        """Writes nothing yet."""
        self._pod = pod
        self._folder = folder
        self._api = api
        self._tokens: dict[str, tuple[float, bytes]] = {}

    def folder(self, name: str) -> Path:
        """Where a volume lies."""
        return self._folder / name

    def write(self) -> None:
        """What is there is written in any case, then raises `Missing` for the first that is not."""
        missing: list[Missing] = []
        for volume in self._pod["spec"].get("volumes", ()):
            folder = self.folder(volume["name"])
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if "emptyDir" not in volume:
                try:
                    publish(folder, self._content(volume))
                except Missing as error:
                    missing.append(error)
        if missing:
            raise missing[0]

    def read(self, kind: str, name: str) -> Files:
        """All keys of a Secret or ConfigMap. Raises `Missing`."""
        namespace = self._pod["metadata"]["namespace"]
        try:
            found = self._api.call("GET", f"/api/v1/namespaces/{namespace}/{kind}/{name}")
        except ApiError as error:
            raise Missing(error.message) from None
        data: Mapping[str, str] = found.get("data") or {}
        if kind == "secrets":
            return {key: base64.b64decode(value) for key, value in data.items()}
        return {key: value.encode() for key, value in data.items()}

    def _content(self, source: Any) -> Files:
        match source:
            case {"secret": {"secretName": name, **more}} | {"secret": {"name": name, **more}}:
                return self._keys("secrets", name, more)
            case {"configMap": {"name": name, **more}}:
                return self._keys("configmaps", name, more)
            case {"downwardAPI": {"items": items}}:
                return {of["path"]: field(self._pod, of["fieldRef"]["fieldPath"]).encode() for of in items}
            case {"serviceAccountToken": {"path": path, **more}}:
                return {path: self._token(more.get("audience", ""))}
            case {"projected": {"sources": sources}}:
                return {path: content for of in sources for path, content in self._content(of).items()}
        raise Missing(f"this node has no volumes of this kind: {', '.join(set(source) - {'name'})}")

    def _keys(self, kind: str, name: Any, more: Mapping[Any, Any]) -> Files:
        try:
            found = self.read(kind, name)
            items: Sequence[Mapping[str, str]] = more.get("items") or [{"key": key, "path": key} for key in found]
            return {of["path"]: found[of["key"]] for of in items}
        except (Missing, KeyError) as error:
            if more.get("optional"):
                return {}
            if isinstance(error, KeyError):
                raise Missing(f"{kind} {name!r} has no key {error}") from None
            raise

    def _token(self, audience: Any) -> bytes:
        """Renewed long before it ends."""
        made, token = self._tokens.get(audience, (0.0, b""))
        if not token or time.monotonic() - made > RENEW_SECONDS:
            metadata = self._pod["metadata"]
            account = self._pod["spec"].get("serviceAccountName", "default")
            text = self._api.service_account_token(
                metadata["namespace"], account, seconds=TOKEN_SECONDS, audience=audience
            )
            made, token = time.monotonic(), text.encode()
            self._tokens[audience] = (made, token)
        return token


def publish(folder: Path, files: Mapping[str, bytes]) -> None:
    """Makes these the folder's files, all at once; one that is the same already is left alone."""
    data = folder / "..data"
    if data.is_symlink() and files == {path.name: path.read_bytes() for path in data.iterdir()}:
        return
    fresh = folder / f"..{time.time_ns()}"
    fresh.mkdir(mode=0o700)
    for name, content in files.items():
        (fresh / name).touch(mode=0o600)
        (fresh / name).write_bytes(content)
    before = data.resolve() if data.is_symlink() else None
    beside = folder / "..data_tmp"
    beside.symlink_to(fresh.name)
    beside.replace(data)
    for name in files:
        with suppress(FileExistsError):
            (folder / name).symlink_to(Path("..data") / name)
    for path in folder.iterdir():
        if not path.name.startswith("..") and path.name not in files:
            path.unlink()
    if before is not None:
        shutil.rmtree(before, ignore_errors=True)


def field(pod: Mapping[str, Any], path: str) -> str:
    """A field of a pod as the downward API has it: metadata.namespace, status.podIP, metadata.labels['x'] …"""
    name, _, key = path.partition("['")
    found: Any = pod
    for part in name.split("."):
        found = (found or {}).get(part, "")
    return str((found or {}).get(key.removesuffix("']"), "")) if key else str(found)


def environment(
    container: Mapping[str, Any], *, pod: Mapping[str, Any], volumes: Volumes, rewrite: Callable[[str], str]
) -> dict[str, str]:
    """A container's variables. `rewrite` makes values that name a place or an address true here. Raises `Missing`."""
    variables: dict[str, str] = {}
    for entry in container.get("env", ()):
        match entry:
            case {"valueFrom": {"secretKeyRef": {"name": name, "key": key, **more}}}:
                value = _key(volumes, "secrets", name, key=key, optional=bool(more.get("optional")))
            case {"valueFrom": {"configMapKeyRef": {"name": name, "key": key, **more}}}:
                value = _key(volumes, "configmaps", name, key=key, optional=bool(more.get("optional")))
            case {"valueFrom": {"fieldRef": {"fieldPath": path}}}:
                value = field(pod, path)
            case {"valueFrom": other}:
                raise Missing(f"this node gives no variables from {', '.join(other)}")
            case _:
                value = rewrite(entry.get("value", ""))
        if value is not None:
            variables[entry["name"]] = value
    return variables


def _key(volumes: Volumes, kind: str, name: str, *, key: str, optional: bool) -> str | None:
    try:
        return volumes.read(kind, name)[key].decode()
    except (Missing, KeyError) as error:
        if optional:
            return None
        raise error if isinstance(error, Missing) else Missing(f"{kind} {name!r} has no key {key!r}") from None


def below(value: str, *, mounts: Mapping[str, Path]) -> str:
    """A value that names a mounted place, with the folder in which it lies here; any other as it is."""
    for place in sorted(mounts, key=len, reverse=True):
        if value == place or value.startswith(place.rstrip("/") + "/"):
            return os.fspath(mounts[place]) + value[len(place.rstrip("/")) :]
    return value
