"""`kubectl nexus report`: one archive for support, with objects, Events, logs and versions, and without secrets.

Secrets are read where the caller may, for one purpose: so that their values can be looked for, and taken out, in all
the rest. What the caller may not read is missing from the archive, and `missing.txt` says so.
"""

import io
import os
import platform
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
import yaml

from services.cli.kubernetes.cluster import GROUP, INSTANCES, SYNCS, Cluster, ClusterFailed
from services.cli.kubernetes.logs import PRODUCT, pods_of
from services.cli.kubernetes.objects import name_of
from services.cli.kubernetes.options import cluster_of, cluster_options
from services.cli.kubernetes.redaction import Redaction, bare, secret_outline, secret_values
from services.cli.output import say, tell

LOG_LINES = "2000"
WORKLOADS = (
    ("/apis/apps/v1", "deployments"),
    ("/apis/batch/v1", "jobs"),
    ("/api/v1", "services"),
    ("/apis/policy/v1", "poddisruptionbudgets"),
)
PACKAGES = ("nexus-auth", "kubernetes", "asyncpg", "click", "rich")


@click.command()
@click.option("-A", "--all-namespaces", is_flag=True, help="Objects of all namespaces.")
@click.option(
    "--file", "file", type=click.Path(path_type=Path), help="The archive.  [default: nexus-report-TIME.tar.gz]"
)
@cluster_options
def report(*, all_namespaces: bool, file: Path | None, **options: Any) -> None:
    """Write a bundle for support: objects, events, logs and versions, without secrets.

    Ids of Clerk objects that drifted are in it, as in the status; names and addresses of users are not.
    """
    anywhere = options["namespace"] is None
    cluster = cluster_of(options)
    gathered = _Gathered(cluster, namespace=None if all_namespaces else cluster.namespace, anywhere=anywhere)
    target = file or Path(f"nexus-report-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar.gz")
    entries = gathered.entries()
    try:
        _write(target, entries)
    except OSError as error:
        raise click.ClickException(f"{target} cannot be written: {error.strerror}") from None
    say(f"{target}: {len(entries)} files; look into it before you send it")
    for sentence in gathered.missing:
        tell(f"not in it: {sentence}")


class _Gathered:
    """Reads everything before anything is written: all secrets must be known first, to be taken out."""

    def __init__(self, cluster: Cluster, *, namespace: str | None, anywhere: bool) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._anywhere = anywhere
        self.missing: list[str] = []

    def entries(self) -> dict[str, str]:
        """Files of the archive and what is in them."""
        cluster, namespace = self._cluster, self._namespace
        syncs = self._try("ClerkSyncs", lambda: cluster.objects(SYNCS, namespace=namespace), [])
        instances = self._try("ClerkInstances", lambda: cluster.objects(INSTANCES, namespace=namespace), [])
        pods = self._try("pods", self._pods, [])
        secrets = list(self._secrets([*syncs, *instances], pods))
        redaction = Redaction(value for of in secrets for value in secret_values(of))
        files: dict[str, Any] = {
            "clerksyncs.yaml": [bare(of) for of in syncs],
            "clerkinstances.yaml": [bare(of) for of in instances],
            "pods.yaml": [bare(of) for of in pods],
            "secrets.yaml": [secret_outline(of) for of in secrets],
            "events.yaml": [bare(of) for of in self._events([*syncs, *instances, *pods])],
            "crds.yaml": [bare(of) for of in self._definitions()],
            "versions.yaml": self._versions(pods),
        }
        for root, plural in WORKLOADS:
            files[f"{plural}.yaml"] = [bare(of) for of in self._workload(root, plural, pods)]
        text = {name: redaction.text(_yaml(redaction.tree(content))) for name, content in files.items()}
        for pod in pods:
            of = pod["metadata"]
            name = f"logs/{of['namespace']}_{of['name']}.log"
            lines = self._try(f"log of {name_of(pod)}", lambda pod=pod: list(self._log(pod)), [])  # type: ignore[misc]
            text[name] = "\n".join(redaction.log(line) for line in lines) + "\n"
        text["missing.txt"] = redaction.text("\n".join(self.missing) or "nothing") + "\n"
        return text

    def _try(self, what: str, read: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return read()
        except ClusterFailed as error:
            if error.status == 0:
                raise
            self.missing.append(f"{what}: {error.message}")
            return otherwise

    def _pods(self) -> list[dict[str, Any]]:
        """The chart's pods. Where the namespace has none, those of other namespaces: the operator may run there."""
        found = pods_of(self._cluster, component=None, anywhere=self._anywhere)
        return found or pods_of(self._cluster, component=None, anywhere=True)

    def _log(self, pod: Mapping[str, Any]) -> Iterator[str]:
        return self._cluster.log(pod, follow=False, query={"tailLines": LOG_LINES})

    def _secrets(self, ours: list[Any], pods: list[Any]) -> Iterator[Mapping[str, Any]]:
        """The Secrets that our objects and pods name."""
        named = {(of["metadata"]["namespace"], name) for of in ours for name in _refs(of["spec"])}
        named |= {(pod["metadata"]["namespace"], name) for pod in pods for name in _mounted(pod["spec"])}
        for namespace, name in sorted(named):
            path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
            found = self._try(f"Secret {namespace}/{name}", lambda path=path: self._cluster.get(path), None)  # type: ignore[misc]
            if found is not None:
                yield found

    def _events(self, about: list[Any]) -> list[Any]:
        names = {(of["metadata"]["namespace"], of["metadata"]["name"]) for of in about}
        found = []
        for namespace in sorted({namespace for namespace, _ in names}):
            where = f"events of {namespace}"
            events = self._try(where, lambda ns=namespace: self._cluster.list("/api/v1", "events", namespace=ns), [])  # type: ignore[misc]
            found += [e for e in events if (namespace, e["involvedObject"].get("name")) in names]
        return found

    def _workload(self, root: str, plural: str, pods: list[Any]) -> list[Any]:
        namespaces = {pod["metadata"]["namespace"] for pod in pods} | {self._cluster.namespace}
        query = {"labelSelector": PRODUCT}
        found = []
        for ns in sorted(namespaces):
            what = f"{plural} of {ns}"
            found += self._try(what, lambda ns=ns: self._cluster.list(root, plural, namespace=ns, query=query), [])  # type: ignore[misc]
        return found

    def _definitions(self) -> list[Any]:
        root = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        names = (f"{SYNCS}.{GROUP}", f"{INSTANCES}.{GROUP}")
        found = (self._try(name, lambda name=name: self._cluster.get(f"{root}/{name}"), None) for name in names)  # type: ignore[misc]
        return [of for of in found if of is not None]

    def _versions(self, pods: list[Any]) -> dict[str, Any]:
        return {
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "apiServer": self._try("version", lambda: self._cluster.get("/version").get("gitVersion"), None),
            "python": platform.python_version(),
            "packages": {name: _version(name) for name in PACKAGES},
            "images": sorted({c["image"] for pod in pods for c in pod["spec"]["containers"]}),
        }


def _refs(value: Any) -> Iterator[str]:
    """Names of the Secrets in a spec: every member that ends in Ref and has a name, but instanceRef."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key in ("secretRef", "secretKeyRef") and isinstance(part, dict) and part.get("name"):
                yield str(part["name"])
            else:
                yield from _refs(part)
    elif isinstance(value, list):
        for part in value:
            yield from _refs(part)


def _mounted(spec: Mapping[str, Any]) -> Iterator[str]:
    for volume in spec.get("volumes") or ():
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for source in sources:
            of = source.get("secret") or {}
            if name := of.get("secretName") or of.get("name"):
                yield str(name)
    yield from _refs(spec.get("containers") or [])


def _yaml(content: Any) -> str:
    return str(yaml.safe_dump(content, sort_keys=False, width=1_000, allow_unicode=True))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _write(target: Path, entries: Mapping[str, str]) -> None:
    """Writes the archive, readable by its owner only: something private may be left in it."""
    with open(target, "xb", opener=_private) as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text in sorted(entries.items()):
            content = text.encode()
            info = tarfile.TarInfo(f"nexus-report/{name}")
            info.size, info.mode, info.mtime = len(content), 0o600, int(time.time())
            archive.addfile(info, io.BytesIO(content))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
