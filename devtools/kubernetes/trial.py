"""What `make cluster` starts around the API server: a node, a Postgres and a Clerk, so that the docs' commands work.

docs/kubernetes/install.md asks for a database, keys and an image. Here they are an embedded Postgres that ends with the
cluster, the emulator, and this checkout; a file of variables has their addresses, as the page names them.
"""

import base64
import fcntl
import json
import os
import secrets
import shlex
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from devtools.kubernetes.api import POLL_SECONDS
from devtools.kubernetes.binaries import find_binary
from devtools.kubernetes.cluster import Cluster, ClusterFailed, free_ports, temporary_cluster
from devtools.kubernetes.node import CLERK
from devtools.postgres import BinariesMissing, create_database, temporary_server
from devtools.postgres.binaries import find_binaries

USERS, ORGANIZATIONS, MEMBERSHIPS = 300, 20, 500
"""Few enough for a whole sweep within seconds, at the example's tenth of Clerk's limit."""

START_SECONDS = 30.0
PROGRAMS = ("kubectl", "kubectl-nexus", "nexus-auth")


@dataclass(frozen=True)
class Trial:
    """A cluster on which the docs' commands work."""

    cluster: Cluster
    env: Path
    """A file for `.`: KUBECONFIG, PATH and what install.md asks for."""
    clerk_url: str
    webhook_url: str


@contextmanager
def trial(folder: Path) -> Iterator[Trial]:
    """Runs in a folder, which one trial at a time has. Raises `ClusterFailed`, `BinariesMissing`, `ServerFailed`."""
    with _claimed(folder), temporary_server() as server, temporary_cluster() as cluster:
        owner = create_database(server.admin_url(), "app")
        clerk_port, front = free_ports(2)
        clerk, webhook = f"http://127.0.0.1:{clerk_port}", f"http://127.0.0.1:{front}/webhooks/clerk"
        keys = {
            "CLERK_SECRET_KEY": f"sk_test_{secrets.token_hex(21)}",
            "CLERK_SIGNING_SECRET": f"whsec_{base64.b64encode(secrets.token_bytes(24)).decode()}",
        }
        _start_clerk(cluster, port=clerk_port, webhook=webhook, keys=keys)
        cluster.run("node", sys.executable, "-m", "devtools.kubernetes.node", str(cluster.folder), str(front), clerk)
        cluster.admin.call("POST", f"{_ADMISSION}/mutatingadmissionpolicies", _policy(clerk))
        cluster.admin.call("POST", f"{_ADMISSION}/mutatingadmissionpolicybindings", _BINDING)
        variables = {
            **keys,
            "NEXUS_AUTH_API_HOSTS": f"127.0.0.1:{clerk_port}",  # kubectl nexus plan runs here, and asks the emulator
            "DATABASE": urlsplit(owner).netloc.rpartition("@")[2] + urlsplit(owner).path,
            "OWNER_DATABASE_URL": owner,
            "WEBHOOK_PASSWORD": secrets.token_hex(24),
            "RECONCILER_PASSWORD": secrets.token_hex(24),
        }
        env = _write_env(folder, cluster=cluster, variables=variables)
        _wait(cluster, url=clerk)
        yield Trial(cluster, env=env, clerk_url=clerk, webhook_url=webhook)


def _start_clerk(cluster: Cluster, *, port: int, webhook: str, keys: Mapping[str, str]) -> None:
    for name, value in keys.items():
        (cluster.folder / name).touch(mode=0o600)
        (cluster.folder / name).write_text(value)
    cluster.run(
        "emulator",
        sys.executable,
        "-m",
        "devtools.clerk_emulator",
        f"--port={port}",
        f"--users={USERS}",
        f"--organizations={ORGANIZATIONS}",
        f"--memberships={MEMBERSHIPS}",
        "--environment-type=production",
        f"--secret-key-file={cluster.folder / 'CLERK_SECRET_KEY'}",
        f"--endpoint-secret-file={cluster.folder / 'CLERK_SIGNING_SECRET'}",
        f"--endpoint={webhook}",
    )


def _wait(cluster: Cluster, *, url: str) -> None:
    """Until the emulator answers and the node is there."""
    deadline = time.monotonic() + START_SECONDS
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        cluster.check()
        with suppress(OSError):
            with opener.open(url + "/", timeout=5):
                pass
            if cluster.admin.call("GET", "/api/v1/nodes")["items"]:
                return
        time.sleep(POLL_SECONDS)
    raise ClusterFailed(f"the node or the emulator does not get ready: {cluster.folder}/*.log")


@contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClusterFailed(f"one already runs in {folder}; end it first") from None
        try:
            yield
        finally:
            for name in ("env", "kubeconfig"):  # they lead to what is gone
                (folder / name).unlink(missing_ok=True)


def _write_env(folder: Path, *, cluster: Cluster, variables: Mapping[str, str]) -> Path:
    """The variables, a kubeconfig, and a folder for PATH with the programs that the docs type."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    found = {name: Path(sys.executable).with_name(name) for name in PROGRAMS} | {"helm": find_binary("helm")}
    with suppress(BinariesMissing):
        found["psql"] = find_binaries(18, account=None, copies=Path()) / "psql"
    for name, program in found.items():
        (programs / name).unlink(missing_ok=True)
        (programs / name).symlink_to(program)
    kubeconfig = cluster.write_kubeconfig(folder / "kubeconfig", token=cluster.token)
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    lines += [
        f"export KUBECONFIG={shlex.quote(str(kubeconfig))}\n",
        f'export PATH={shlex.quote(str(programs))}:"$PATH"\n',
    ]
    env = folder / "env"
    env.touch(mode=0o600)
    env.write_text(
        "# Written by make cluster, removed when it ends. Keys and passwords: do not share.\n" + "".join(lines)
    )
    return env


_ADMISSION = "/apis/admissionregistration.k8s.io/v1"
_POLICY = "clerk-is-the-emulator"
_BINDING = {"metadata": {"name": _POLICY}, "spec": {"policyName": _POLICY}}


def _policy(clerk: str) -> Mapping[str, object]:
    """A ClerkInstance that would ask Clerk asks the emulator: no example has to be edited for a trial."""
    rule = {
        "apiGroups": ["nexus-auth.dev"],
        "apiVersions": ["*"],
        "resources": ["clerkinstances"],
        "operations": ["CREATE", "UPDATE"],
    }
    patch = f"Object{{spec: Object.spec{{apiUrl: {json.dumps(clerk)}}}}}"
    return {
        "metadata": {"name": _POLICY},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "matchConstraints": {"resourceRules": [rule]},
            "matchConditions": [{"name": "real", "expression": f"object.spec.apiUrl == {json.dumps(CLERK)}"}],
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": patch}}],
        },
    }
