"""The node as a process of its own: `python -m devtools.kubernetes.node FOLDER FRONT_PORT CLERK_URL`.

One loop lists pods and lets each live in its thread. It is ended with the cluster, and its pods with it: they are in
its process group.
"""

import random
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from devtools.kubernetes.api import ApiError
from devtools.kubernetes.cluster import Cluster
from devtools.kubernetes.node import CLERK, CLERK_HOST
from devtools.kubernetes.node.container import now, port_number
from devtools.kubernetes.node.front import Front
from devtools.kubernetes.node.logs import LogServer
from devtools.kubernetes.node.pod import Pod

NAME = "processes"
IMAGE = "nexus-auth"
"""The last part of an image's name: whatever registry it is in, here it is this checkout."""

KUBELET_PORT = 10_250
LOOK_SECONDS = 0.25
REFUSAL = "this node runs processes of this checkout, not containers: only the image nexus-auth (make e2e needs a node)"


class Node:
    """It has addresses of its own: 127.x.0.1 for itself, 127.x.0.2 and so on for its pods."""

    def __init__(self, cluster: Cluster, *, front: int, clerk: str) -> None:
        """Takes addresses that no other node of this machine has; `clerk` stands in for Clerk's API.

        Raises `OSError` where a port is taken.
        """
        self._cluster = cluster
        self._api = cluster.admin
        self._pods: dict[str, Pod] = {}
        self._refused: set[str] = set()
        self._count = 1
        self._clerk = clerk
        self._logs = self._listen()
        self._address = str(self._logs.server_address[0])
        self._front = Front(front, ready=self._webhooks)

    def serve(self) -> None:
        """Registers the node, and runs pods until the process is ended."""
        for server in (self._logs, self._front):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        self._register()
        while True:
            try:
                self._look()
            except (ApiError, OSError) as error:
                print(f"node: {error}", flush=True)
            time.sleep(LOOK_SECONDS)

    def _listen(self) -> LogServer:
        """The port of a kubelet is also the lock on the addresses behind it."""
        for second in random.sample(range(10, 250), 20):
            with suppress(OSError):
                address = (f"127.{second}.0.1", KUBELET_PORT)
                return LogServer(address, certificates=self._cluster.folder, find=self._find_log)
        raise OSError("no free addresses on loopback: this node needs Linux, where 127.0.0.0/8 is everybody's")

    def _register(self) -> None:
        labels = {"kubernetes.io/hostname": NAME, "kubernetes.io/os": "linux", "nexus-auth.dev/node": "processes"}
        node = {"metadata": {"name": NAME, "labels": labels}}
        self._api.call("POST", "/api/v1/nodes", node)
        merge = "application/merge-patch+json"
        self._api.call("PATCH", f"/api/v1/nodes/{NAME}", {"spec": {"taints": None}}, content=merge)
        room = {"cpu": "64", "memory": "64Gi", "pods": "200"}
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "Processes",
            "message": "processes of this machine, no containers",
            "lastHeartbeatTime": now(),
            "lastTransitionTime": now(),
        }
        status = {
            "capacity": room,
            "allocatable": room,
            "addresses": [{"type": "InternalIP", "address": self._address}, {"type": "Hostname", "address": NAME}],
            "conditions": [ready],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        }
        self._api.call("PATCH", f"/api/v1/nodes/{NAME}/status", {"status": status}, content=merge)

    def _look(self) -> None:
        there = {pod["metadata"]["uid"]: pod for pod in self._api.call("GET", "/api/v1/pods")["items"]}
        for uid, manifest in there.items():
            if "nodeName" not in manifest["spec"]:
                self._bind(manifest)
            elif uid not in self._pods and manifest["spec"]["nodeName"] == NAME:
                self._begin(manifest)
        for uid, pod in list(self._pods.items()):
            if uid not in there or "deletionTimestamp" in there[uid]["metadata"]:
                pod.delete()
            if uid not in there:
                del self._pods[uid]

    def _bind(self, manifest: Mapping[str, Any]) -> None:
        metadata = manifest["metadata"]
        images = {of["image"] for kind in ("initContainers", "containers") for of in manifest["spec"].get(kind, ())}
        path = f"/api/v1/namespaces/{metadata['namespace']}"
        others = sorted(image for image in images if _name(image) != IMAGE)
        if not others:
            target = {"apiVersion": "v1", "kind": "Node", "name": NAME}
            self._api.call(
                "POST",
                f"{path}/pods/{metadata['name']}/binding",
                {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": metadata["name"]}, "target": target},
            )
        elif metadata["uid"] not in self._refused:
            self._refused.add(metadata["uid"])
            about = {"apiVersion": "v1", "kind": "Pod", **{of: metadata[of] for of in ("name", "namespace", "uid")}}
            event = {
                "metadata": {"generateName": f"{metadata['name']}."},
                "involvedObject": about,
                "type": "Warning",
                "reason": "FailedScheduling",
                "message": f"{', '.join(others)}: {REFUSAL}",
                "source": {"component": NAME},
                "firstTimestamp": now(),
                "lastTimestamp": now(),
                "count": 1,
            }
            self._api.call("POST", f"{path}/events", event)

    def _begin(self, manifest: Mapping[str, Any]) -> None:
        self._count += 1
        network = self._address.rsplit(".", 2)[0]
        uid = manifest["metadata"]["uid"]
        self._pods[uid] = Pod(
            {**manifest, "status": {"hostIP": self._address}},
            address=f"{network}.{self._count // 256}.{self._count % 256}",
            folder=self._cluster.folder / "pods" / uid,
            api=self._api,
            kubeconfig=lambda path, token, namespace: self._cluster.write_kubeconfig(
                path, token=token, namespace=namespace
            ),
            resolve=self._resolve,
            stand_ins={CLERK: self._clerk, CLERK_HOST: self._clerk.partition("://")[2]},
        )
        self._pods[uid].start()

    def _resolve(self, namespace: str, name: str, port: int) -> tuple[str, int] | None:
        """A ready pod of a Service, and its port there."""
        try:
            spec = self._api.call("GET", f"/api/v1/namespaces/{namespace}/services/{name}")["spec"]
        except ApiError:
            return None
        target = next((of.get("targetPort", port) for of in spec["ports"] if of["port"] == port), port)
        return next(iter(self._ready(spec.get("selector") or {}, namespace=namespace, port=target)), None)

    def _webhooks(self) -> list[tuple[str, int]]:
        labels = {"app.kubernetes.io/name": IMAGE, "app.kubernetes.io/component": "webhook"}
        return self._ready(labels, namespace=None, port="http")

    def _ready(self, labels: Mapping[str, str], *, namespace: str | None, port: int | str) -> list[tuple[str, int]]:
        return [
            (pod.address, port_number(pod.containers[0].spec, port))
            for pod in list(self._pods.values())
            if pod.ready
            and namespace in (None, pod.manifest["metadata"]["namespace"])
            and labels.items() <= pod.manifest["metadata"].get("labels", {}).items()
        ]

    def _find_log(self, namespace: str, name: str, container: str) -> Any:
        for pod in list(self._pods.values()):
            metadata = pod.manifest["metadata"]
            for of in (*pod.inits, *pod.containers):
                if (metadata["namespace"], metadata["name"], of.spec["name"]) == (namespace, name, container):
                    return of.log, lambda of=of: of.running
        return None


def _name(image: str) -> str:
    """The last part of an image's name, without tag and digest."""
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def main(arguments: Sequence[str]) -> None:
    """Runs until it is ended."""
    folder = Path(arguments[0])
    config = yaml.safe_load((folder / "kubeconfig").read_text())
    url, token = config["clusters"][0]["cluster"]["server"], config["users"][0]["user"]["token"]
    Node(Cluster(folder, url=url, token=token), front=int(arguments[1]), clerk=arguments[2]).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
