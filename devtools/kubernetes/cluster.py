"""An API server of its own in a scratch folder: authorization by RBAC, admission as in a real cluster, no nodes.

It is ready after about three seconds and takes 0.4 GB. Ports are free ones on 127.0.0.1; nothing else listens. When the
process that started it dies, `leash.py` ends all of it and removes the folder.
"""

import base64
import json
import math
import random
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from devtools.kubernetes.api import POLL_SECONDS, Api, ApiError
from devtools.kubernetes.binaries import find_binary
from devtools.kubernetes.node.logs import write_certificate

PORTS = range(20_000, 32_768)
"""Below the range from which outgoing connections take theirs."""

START_SECONDS = 90.0
"""Three are usual; a machine that builds and tests at the same time takes its time."""

ATTEMPTS = 3
NAME = "nexus-auth"
"""Of cluster, user and context in kubeconfigs."""

CONTROLLERS = (
    "namespace-controller",
    "garbage-collector-controller",
    "serviceaccount-controller",
    "root-ca-certificate-publisher-controller",
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "replicaset-controller",
    "job-controller",
)
"""What the tests rely on. Pods are made and stay Pending, unless somebody starts a node."""


class ClusterFailed(Exception):
    """A program did not start; the text holds the last lines that it said."""


class Cluster:
    """A running API server."""

    def __init__(self, folder: Path, *, url: str, token: str, leash: "_Leash | None" = None) -> None:
        """`temporary_cluster` makes one."""
        self._leash = leash
        self.folder = folder
        self.url = url
        self.token = token
        """The administrator's."""
        self.ca = folder / "certificates" / "apiserver.crt"
        """PEM file of the authority that signed the server's certificate."""
        self.kubeconfig = folder / "kubeconfig"
        """The administrator's."""

    @property
    def admin(self) -> Api:
        """The administrator's requests."""
        return Api(self.url, ca=self.ca, token=self.token)

    def write_kubeconfig(self, path: Path, *, token: str, namespace: str = "default", server: str = "") -> Path:
        """A kubeconfig (mode 0600) for the bearer of a token, complete in itself; `server` for a proxy in between."""
        authority = base64.b64encode(self.ca.read_bytes()).decode()
        cluster = {"server": server or self.url, "certificate-authority-data": authority}
        context = {"cluster": NAME, "user": NAME, "namespace": namespace}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": NAME, "cluster": cluster}],
            "users": [{"name": NAME, "user": {"token": token}}],
            "contexts": [{"name": NAME, "context": context}],
            "current-context": NAME,
        }
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(content))
        return path

    def run(self, name: str, *command: str) -> None:
        """Starts a further program, which ends with the cluster; what it says is in `NAME.log` of the folder."""
        assert self._leash is not None
        self._leash.run(name, *command)

    def check(self) -> None:
        """Raises `ClusterFailed` where a program has ended."""
        assert self._leash is not None
        self._leash.check(deadline=math.inf, waits_for="")

    def service_account_kubeconfig(self, path: Path, *, namespace: str, name: str) -> Path:
        """A kubeconfig with a fresh token of a service account, which exists."""
        token = self.admin.service_account_token(namespace, name)
        return self.write_kubeconfig(path, token=token, namespace=namespace)


@contextmanager
def temporary_cluster(*, timeout: float = START_SECONDS) -> Iterator[Cluster]:
    """A cluster, ready: its API answers, new namespaces get their service account. Stopped and removed afterwards.

    Raises `BinariesMissing`, or `ClusterFailed` where a program ends or is not ready within `timeout` seconds.
    """
    for attempt in range(1, ATTEMPTS + 1):
        folder = Path(tempfile.mkdtemp(prefix="nexus-auth-kubernetes-"))
        with _Leash(folder) as leash:
            try:
                cluster = _started(leash, deadline=time.monotonic() + timeout)
            except _PortTaken:
                if attempt == ATTEMPTS:
                    raise
                continue
            yield cluster
            return


class _PortTaken(ClusterFailed):
    """Somebody else was quicker."""


class _Leash:
    """Starts programs that cannot outlive us."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: list[str] = []

    def __enter__(self) -> "_Leash":
        script = Path(__file__).with_name("leash.py")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script), str(self.folder)],
            stdin=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "TZ": "UTC"},
            text=True,
            start_new_session=True,  # a Ctrl-C in the terminal is for the owner
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        self._process.wait()

    def run(self, name: str, *command: str) -> None:
        """Starts a program."""
        assert self._process.stdin is not None
        self._names.append(name)
        self._process.stdin.write(json.dumps([name, *command]) + "\n")
        self._process.stdin.flush()

    def start(self, name: str, *options: str) -> None:
        """Starts a binary of Kubernetes."""
        self.run(name, str(find_binary(name)), *options)

    def check(self, *, deadline: float, waits_for: str) -> None:
        """Raises `ClusterFailed` where a program has ended, or the deadline has passed."""
        for name in self._names:
            if (self.folder / f"{name}.ended").exists():
                said = self._said(name)
                kind = _PortTaken if "address already in use" in said else ClusterFailed
                raise kind(f"{name} has ended:\n{said}")
        if time.monotonic() > deadline:
            said = "\n".join(f"{name}: {self._said(name)}" for name in self._names)
            raise ClusterFailed(f"{waits_for} does not get ready:\n{said}")

    def _said(self, name: str) -> str:
        with suppress(FileNotFoundError):
            return "\n".join((self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-15:])
        return ""


def _started(leash: _Leash, *, deadline: float) -> Cluster:
    """The three programs. The API server waits for etcd by itself; the controllers need to have it."""
    folder = leash.folder
    clients, peers, secure = free_ports(3)
    cluster = Cluster(folder, url=f"https://127.0.0.1:{secure}", token=secrets.token_hex(16), leash=leash)
    _write_keys(folder)
    write_certificate(folder)
    (folder / "tokens.csv").touch(mode=0o600)
    (folder / "tokens.csv").write_text(f'{cluster.token},admin,admin,"system:masters"\n')
    etcd = f"http://127.0.0.1:{clients}"
    leash.start("etcd", *_etcd_options(folder, clients=etcd, peers=f"http://127.0.0.1:{peers}"))
    leash.start(
        "kube-apiserver",
        *_apiserver_options(folder, etcd=etcd, cluster=cluster, port=secure),
    )
    _wait(leash, lambda: cluster.ca.exists() and cluster.admin.call("GET", "/readyz") == "ok", deadline=deadline)
    cluster.write_kubeconfig(cluster.kubeconfig, token=cluster.token)
    leash.start(
        "kube-controller-manager",
        *_controller_options(folder, cluster=cluster),
    )
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    _wait(leash, lambda: bool(cluster.admin.call("GET", account)), deadline=deadline)
    return cluster


def _wait(leash: _Leash, true: Callable[[], bool], *, deadline: float) -> None:
    while True:
        with suppress(OSError, ApiError):
            if true():
                return
        leash.check(deadline=deadline, waits_for="the cluster")
        time.sleep(POLL_SECONDS)


def _etcd_options(folder: Path, *, clients: str, peers: str) -> Sequence[str]:
    urls = (f"--listen-client-urls={clients}", f"--advertise-client-urls={clients}", f"--listen-peer-urls={peers}")
    return (f"--data-dir={folder / 'etcd'}", *urls, "--unsafe-no-fsync=true", "--log-level=warn")


def _apiserver_options(folder: Path, *, etcd: str, cluster: Cluster, port: int) -> Sequence[str]:
    return (
        f"--etcd-servers={etcd}",
        f"--cert-dir={cluster.ca.parent}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--authorization-mode=RBAC",
        f"--service-account-issuer={cluster.url}",
        f"--service-account-key-file={folder / 'accounts.pub'}",
        f"--service-account-signing-key-file={folder / 'accounts.key'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--endpoint-reconciler-type=none",
        "--kubelet-preferred-address-types=InternalIP",
        f"--kubelet-client-certificate={folder / 'kubelet.crt'}",
        f"--kubelet-client-key={folder / 'kubelet.key'}",
        "--enable-priority-and-fairness=false",
    )


def _controller_options(folder: Path, *, cluster: Cluster) -> Sequence[str]:
    return (
        f"--kubeconfig={cluster.kubeconfig}",
        f"--service-account-private-key-file={folder / 'accounts.key'}",
        f"--root-ca-file={cluster.ca}",
        f"--controllers={','.join(CONTROLLERS)}",
        "--leader-elect=false",
        "--secure-port=0",
    )


def _write_keys(folder: Path) -> None:
    """With which the API server signs service accounts' tokens."""
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "accounts.key").touch(mode=0o600)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    (folder / "accounts.key").write_bytes(private)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "accounts.pub").write_bytes(public)


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on at this moment, at random: others choose at the same moment."""
    free: list[int] = []
    for port in random.sample(PORTS, 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        free.append(port)
        if len(free) == count:
            return free
    raise ClusterFailed("no free port found")
