"""The life of one pod, in a thread of its own: volumes, init containers, containers, status, the end."""

import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from devtools.kubernetes.api import Api, ApiError
from devtools.kubernetes.node.container import Container, now
from devtools.kubernetes.node.volumes import ACCOUNT, Missing, Volumes, below, environment

LOOK_SECONDS = 0.2
FOLLOW_SECONDS = 1.0
"""Between two looks for changed Secrets; a kubelet takes a minute."""

EVERYWHERE = ("0.0.0.0", "::")
SERVICE = re.compile(r"\b([a-z0-9-]+)\.([a-z0-9-]+)\.svc(?:\.cluster\.local)?(?::(\d+))?\b")


class Pod:
    """A pod that is bound to this node."""

    def __init__(
        self,
        manifest: Mapping[str, Any],
        *,
        address: str,
        folder: Path,
        api: Api,
        kubeconfig: Callable[[Path, str, str], object],
        resolve: Callable[[str, str, int], tuple[str, int] | None],
        stand_ins: Mapping[str, str],
    ) -> None:
        """`kubeconfig` writes one to a path for a token and a namespace; `resolve` finds a Service's pod and port.

        `stand_ins`: values of variables that become others here.
        """
        self.manifest: dict[str, Any] = {**manifest, "status": {**manifest.get("status", {}), "podIP": address}}
        self.address = address
        self._folder = folder
        self._api = api
        self._kubeconfig = kubeconfig
        self._resolve = resolve
        self._stand_ins = {**stand_ins, **dict.fromkeys(EVERYWHERE, address)}
        self._volumes = Volumes(self.manifest, folder=folder / "volumes", api=api)
        spec = manifest["spec"]
        self.inits = self._containers(spec.get("initContainers", ()))
        self.containers = self._containers(spec["containers"])
        self._began = now()
        self._followed = 0.0
        self._deleted = threading.Event()
        self._told: Mapping[str, Any] = {}
        self._changed: dict[str, tuple[str, str]] = {}
        self._thread = threading.Thread(target=self._live, name=manifest["metadata"]["name"], daemon=True)

    @property
    def ready(self) -> bool:
        """Whether a Service would lead to it."""
        return not self._deleted.is_set() and all(container.ready for container in self.containers)

    def start(self) -> None:
        """Begins its life."""
        self._folder.mkdir(parents=True, mode=0o700)
        self._thread.start()

    def delete(self) -> None:
        """Begins its end, with its grace."""
        self._deleted.set()

    def _containers(self, specs: Any) -> list[Container]:
        return [Container(of, address=self.address, log=self._folder / f"{of['name']}.log") for of in specs]

    def _live(self) -> None:
        self._run()
        grace = self.manifest["spec"].get("terminationGracePeriodSeconds", 30)
        ends = [threading.Thread(target=of.end, kwargs={"seconds": grace}) for of in (*self.inits, *self.containers)]
        for each in ends:
            each.start()
        for each in ends:
            each.join()
        self._tell()
        metadata = self.manifest["metadata"]
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
        with suppress(ApiError, OSError):  # gone already, with its namespace
            self._api.call("DELETE", self._path(), {"kind": "DeleteOptions", "apiVersion": "v1", **options})

    def _run(self) -> None:
        """Returns when it is deleted."""
        while not self._deleted.is_set():
            try:
                self._follow()
                self._go_on()
            except Missing as error:
                for container in (*self.inits, *self.containers):
                    container.waits_for = ("CreateContainerConfigError", str(error))
            except (ApiError, OSError) as error:
                print(f"{self._path()}: {error}", flush=True)
            self._tell()
            self._deleted.wait(LOOK_SECONDS)

    def _follow(self) -> None:
        """Raises `Missing` before its start only: what has been mounted stays when its Secret goes."""
        if time.monotonic() - self._followed < FOLLOW_SECONDS:
            return
        try:
            self._write_volumes()
        except Missing:
            if not self._followed:
                raise
        self._followed = time.monotonic()

    def _go_on(self) -> None:
        """What is next: an init container that has not succeeded, else all others at once."""
        for container in self.inits:
            self._keep(container, again=self._restarts(container))
            if container.exit_code != 0:
                return
        for container in self.containers:
            self._keep(container, again=self._restarts(container))

    def _restarts(self, container: Container) -> bool:
        policy = self.manifest["spec"].get("restartPolicy", "Always")
        failed = container.exit_code != 0
        return (policy == "Always" and (failed or container not in self.inits)) or (policy == "OnFailure" and failed)

    def _keep(self, container: Container, *, again: bool) -> None:
        container.look()
        if container.running or (container.exit_code is not None and not (again and container.may_restart())):
            return
        mounts = {
            of["mountPath"]: self._volumes.folder(of["name"]) / of.get("subPath", "")
            for of in container.spec.get("volumeMounts", ())
        }

        def rewrite(value: str) -> str:
            if value in self._stand_ins:
                return self._stand_ins[value]
            return SERVICE.sub(self._service, below(value, mounts=mounts))

        variables = {"HOSTNAME": self.manifest["metadata"]["name"]}
        if "/tmp" in mounts:
            variables["TMPDIR"] = str(mounts["/tmp"])
        if ACCOUNT in mounts:
            variables["KUBECONFIG"] = str(self._folder / "kubeconfig")
        variables |= environment(container.spec, pod=self.manifest, volumes=self._volumes, rewrite=rewrite)
        self._check_ports(container)
        words = [*container.spec.get("command", ("nexus-auth", "--help")), *container.spec.get("args", ())]
        container.start(variables, command=[rewrite(word) for word in words], home=self._folder)

    def _check_ports(self, container: Container) -> None:
        """Who listens on all addresses of this machine has the port of each pod, too. Raises `Missing`."""
        for port in container.spec.get("ports", ()):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self.address, port["containerPort"]))
                except OSError as error:
                    where = f"{self.address}:{port['containerPort']} is not to be had ({error.strerror})"
                    raise Missing(f"{where}: does a program of this machine listen on all its addresses?") from None

    def _service(self, found: re.Match[str]) -> str:
        """A Service's name and port as an address that answers: this node has no DNS and no proxy."""
        name, namespace, port = found.groups()
        where = self._resolve(namespace, name, int(port or 80))
        return f"{where[0]}:{where[1]}" if where else found.group()

    def _write_volumes(self) -> None:
        """A process has its service account by a kubeconfig: the place where containers find it is not ours to make."""
        self._volumes.write()
        for container in self.containers:
            for mount in container.spec.get("volumeMounts", ()):
                if mount["mountPath"] == ACCOUNT:
                    token = (self._volumes.folder(mount["name"]) / "token").read_text()
                    file = self._folder / "kubeconfig"
                    if not file.exists() or token not in file.read_text():
                        self._kubeconfig(file, token, self.manifest["metadata"]["namespace"])

    def _tell(self) -> None:
        """Writes the status where it has changed."""
        status = self._status()
        if status == self._told:
            return
        try:
            self._api.call(
                "PATCH", self._path() + "/status", {"status": status}, content="application/merge-patch+json"
            )
            self._told = status
        except (ApiError, OSError) as error:
            if not self._deleted.is_set():
                print(f"{self._path()}: {error}", flush=True)

    def _status(self) -> Mapping[str, Any]:
        codes = [container.exit_code for container in self.containers]
        phase = "Running" if any(of.running or of.restarts for of in self.containers) else "Pending"
        if all(code is not None for code in codes) and not any(self._restarts(of) for of in self.containers):
            phase = "Failed" if any(codes) else "Succeeded"
        elif any(code for code in (of.exit_code for of in self.inits)) and not any(map(self._restarts, self.inits)):
            phase = "Failed"
        initialized = all(of.exit_code == 0 for of in self.inits)
        ready = "True" if all(of.ready for of in self.containers) else "False"
        conditions = {
            "PodScheduled": "True",
            "Initialized": "True" if initialized else "False",
            "ContainersReady": ready,
            "Ready": ready,
        }
        return {
            "phase": phase,
            "hostIP": self.manifest["status"].get("hostIP", ""),
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "startTime": self._began,
            "conditions": [self._condition(name, value) for name, value in conditions.items()],
            "initContainerStatuses": [of.status() for of in self.inits],
            "containerStatuses": [of.status() for of in self.containers],
        }

    def _condition(self, name: str, value: str) -> Mapping[str, str]:
        if self._changed.get(name, ("", ""))[0] != value:
            self._changed[name] = (value, now())
        return {"type": name, "status": value, "lastTransitionTime": self._changed[name][1]}

    def _path(self) -> str:
        metadata = self.manifest["metadata"]
        return f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
