"""The node of processes: what a pod may rely on is as a kubelet gives it, and what it cannot have is said."""

import http.client
import socket
import ssl
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from devtools.kubernetes import Api, Cluster, temporary_cluster
from devtools.kubernetes.cluster import free_ports
from devtools.kubernetes.node.volumes import below, publish
from tests.kubernetes.docs.typed import PersonsCluster, until

PODS = "/api/v1/namespaces/default/pods"
SECRETS = "/api/v1/namespaces/default/secrets"


@pytest.fixture(scope="module")
def node(helm: Path) -> Iterator[Cluster]:
    """A cluster with a node, and nothing beside it."""
    with temporary_cluster() as cluster:
        (front,) = free_ports(1)
        options = (str(cluster.folder), str(front), "http://127.0.0.1:1")
        cluster.run("node", sys.executable, "-m", "devtools.kubernetes.node", *options)
        until(lambda: bool(cluster.admin.call("GET", "/api/v1/nodes")["items"]), what="the node")
        yield cluster


def pod(api: Api, name: str, *commands: str, container: Any = None, **spec: Any) -> None:
    """A pod of our image: each command is Python; the last one its container's, the others init containers'."""
    containers = [
        {
            "name": f"c{number}",
            "image": "nexus-auth",
            "command": ["python", "-c", command],
            **(container or {}),
        }
        for number, command in enumerate(commands)
    ]
    body = {"restartPolicy": "Never", **spec, "initContainers": containers[:-1], "containers": containers[-1:]}
    api.call("POST", PODS, {"metadata": {"name": name}, "spec": body})


def status(api: Api, name: str) -> Any:
    return api.call("GET", f"{PODS}/{name}")["status"]


def told(api: Api, name: str) -> Any:
    """What is told of the pod's container; nothing before the node has seen it."""
    return next(iter(status(api, name).get("containerStatuses", [])), {"restartCount": 0, "state": {}})


def waiting(api: Api, name: str) -> str:
    """Why it waits."""
    return str(told(api, name)["state"].get("waiting", {}).get("message"))


def exists(api: Api, name: str) -> bool:
    return name in [of["metadata"]["name"] for of in api.call("GET", PODS)["items"]]


def until_phase(api: Api, name: str, phase: str) -> Any:
    until(lambda: status(api, name)["phase"] == phase, what=f"{name}: {phase}, not {status(api, name)}")
    return told(api, name)


def log(api: Api, name: str, container: str = "c0") -> str:
    return str(api.call("GET", f"{PODS}/{name}/log?container={container}")).strip()


def test_a_container_begins_when_those_before_it_have_succeeded(node: Cluster) -> None:
    append = "import os; open(os.environ['FILE'], 'a').write('{}')"
    container = {
        "env": [{"name": "FILE", "value": "/shared/words"}],
        "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
    }
    read = "import os; print(open(os.environ['FILE']).read())"
    volumes = [{"name": "shared", "emptyDir": {}}]
    pod(node.admin, "order", append.format("a"), append.format("b"), read, container=container, volumes=volumes)
    assert until_phase(node.admin, "order", "Succeeded")["state"]["terminated"]["exitCode"] == 0
    assert log(node.admin, "order", "c2") == "ab"
    pod(node.admin, "stopped", "raise SystemExit(3)", "print('never')")
    assert "waiting" in until_phase(node.admin, "stopped", "Failed")["state"]


def test_who_dies_is_started_again_and_what_it_said_is_kept(node: Cluster) -> None:
    pod(node.admin, "again", "raise SystemExit('enough')", restartPolicy="Always")
    until(lambda: told(node.admin, "again")["restartCount"] > 1, what="a second start")
    said = node.admin.call("GET", f"{PODS}/again/log?previous=true")
    assert said.strip() == "enough"
    assert told(node.admin, "again")["lastState"]["terminated"]["exitCode"] == 1
    node.admin.call("DELETE", f"{PODS}/again")


def test_logs_can_be_followed_to_the_end(node: Cluster, tmp_path: Path) -> None:
    wanted = tmp_path / "wanted"
    program = f"""
import os, time
print('first', flush=True)
while not os.path.exists({str(wanted)!r}): time.sleep(0.01)
print('last')
"""
    pod(node.admin, "talks", program)
    until_phase(node.admin, "talks", "Running")
    with ThreadPoolExecutor() as threads:
        whole = threads.submit(node.admin.call, "GET", f"{PODS}/talks/log?follow=true")
        until(lambda: log(node.admin, "talks") == "first", what="its first line")
        wanted.touch()
        assert whole.result() == "first\nlast\n"
    assert node.admin.call("GET", f"{PODS}/talks/log?tailLines=1") == "last\n"


def test_its_end_is_a_pause_then_sigterm_then_grace(node: Cluster, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    program = f"""
import signal, time
def note(text): open({str(notes)!r}, 'a').write(f'{{text}} {{time.monotonic()}}\\n')
signal.signal(signal.SIGTERM, lambda *_: note('term'))
note('began')
while True: time.sleep(0.01)
"""
    container = {"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}
    pod(node.admin, "slow", program, container=container, terminationGracePeriodSeconds=2)
    until(notes.exists, what="its start")
    node.admin.call("DELETE", f"{PODS}/slow")
    until(lambda: not exists(node.admin, "slow"), what="its end")
    (_, began), (word, termed) = (line.split() for line in notes.read_text().splitlines())
    assert word == "term"
    assert float(termed) - float(began) >= 1


def test_a_secret_that_is_missing_is_named_and_waited_for(node: Cluster) -> None:
    env = [
        {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "late", "key": "key"}}},
        {"name": "WHO", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "WHERE", "value": "0.0.0.0"},
    ]
    command = "import os; print(os.environ['KEY'], os.environ['WHO'], os.environ['WHERE'])"
    pod(node.admin, "waits", command, container={"env": env})

    until(lambda: waiting(node.admin, "waits") == 'secrets "late" not found', what="what is missing")
    node.admin.call("POST", SECRETS, {"metadata": {"name": "late"}, "stringData": {"key": "value"}})
    until_phase(node.admin, "waits", "Succeeded")
    assert log(node.admin, "waits") == f"value waits {status(node.admin, 'waits')['podIP']}"


def test_what_is_mounted_stays_when_its_secret_goes(node: Cluster) -> None:
    """And the others are followed on."""
    for name in ("goes", "stays"):
        node.admin.call("POST", SECRETS, {"metadata": {"name": name}, "stringData": {"key": "before"}})
    program = """
import os, time
def read(name): return open(os.environ[name]).read()
while read('STAYS') == 'before': time.sleep(0.01)
print(read('GOES'), read('STAYS'))
"""
    own = {
        "env": [{"name": name.upper(), "value": f"/keys/{name}/key"} for name in ("goes", "stays")],
        "volumeMounts": [{"name": name, "mountPath": f"/keys/{name}"} for name in ("goes", "stays")],
    }
    volumes = [{"name": name, "secret": {"secretName": name}} for name in ("goes", "stays")]
    pod(node.admin, "keeps", program, container=own, volumes=volumes)
    until_phase(node.admin, "keeps", "Running")
    node.admin.call("DELETE", f"{SECRETS}/goes")
    merge = "application/merge-patch+json"
    node.admin.call("PATCH", f"{SECRETS}/stays", {"stringData": {"key": "after"}}, content=merge)
    until_phase(node.admin, "keeps", "Succeeded")
    assert log(node.admin, "keeps") == "before after"


def test_a_port_that_another_program_has_is_said(node: Cluster) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        ports = [{"containerPort": other.getsockname()[1]}]
        pod(node.admin, "taken", "print('free')", container={"ports": ports})
        until(lambda: "listen on all its addresses" in waiting(node.admin, "taken"), what="why it waits")
    until_phase(node.admin, "taken", "Succeeded")


def test_it_is_its_service_account_to_the_api_server(node: Cluster) -> None:
    """By a kubeconfig, since the usual folder is not ours to make."""
    command = "import os, yaml; print(yaml.safe_load(open(os.environ['KUBECONFIG']))['users'][0]['user']['token'])"
    pod(node.admin, "account", command)
    until_phase(node.admin, "account", "Succeeded")
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    account = Api(node.url, ca=node.ca, token=log(node.admin, "account"))
    who = account.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body)
    assert who["status"]["userInfo"]["username"] == "system:serviceaccount:default:default"


def test_the_files_of_a_volume_change_all_at_once(tmp_path: Path) -> None:
    publish(tmp_path, {"a": b"1", "b": b"1"})
    before = (tmp_path / "..data").resolve()
    publish(tmp_path, {"a": b"1", "b": b"1"})
    assert (tmp_path / "..data").resolve() == before
    publish(tmp_path, {"a": b"2", "c": b"2"})
    assert {path.name: path.read_bytes() for path in tmp_path.glob("[abc]")} == {"a": b"2", "c": b"2"}
    assert (tmp_path / "a").readlink() == Path("..data/a")
    assert {path.name for path in tmp_path.glob("..*")} == {"..data", (tmp_path / "..data").readlink().name}
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("value", "there"),
    [
        ("/run/a", "/x"),
        ("/run/a/key", "/x/key"),
        ("/run/ab", "/run/ab"),
        ("/run/a/b/key", "/y/key"),
        ("a /run/a", "a /run/a"),
    ],
)
def test_a_mounted_place_is_found_where_it_lies(value: str, there: str) -> None:
    assert below(value, mounts={"/run/a": Path("/x"), "/run/a/b": Path("/y")}) == there


def test_nobody_but_the_api_server_reads_logs(node: Cluster) -> None:
    (found,) = node.admin.call("GET", "/api/v1/nodes")["items"]
    address = found["status"]["addresses"][0]["address"]
    port = found["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    stranger = http.client.HTTPSConnection(address, port, context=anybody, timeout=5)

    def ask() -> None:
        stranger.request("GET", "/containerLogs/default/order/c0")
        stranger.getresponse()

    with pytest.raises(ssl.SSLError, match="certificate required"):
        ask()


def test_make_cluster_for_a_person(helm: Path, tmp_path: Path) -> None:
    """It says how to reach it; another in the same folder is refused; Ctrl-C ends it with its files."""
    with PersonsCluster(tmp_path / "one") as first:
        assert "processes" in first.said_by("kubectl get nodes -o name")
        assert (tmp_path / "one/env").stat().st_mode & 0o777 == 0o600
        with pytest.raises(AssertionError, match="one already runs in"), PersonsCluster(tmp_path / "one"):
            pass
        assert "processes" in first.said_by("kubectl get nodes -o name")
        folder = Path(first.address("logs")).parent
    assert not folder.exists()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["bin", "lock"]
