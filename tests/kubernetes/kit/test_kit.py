"""The kit itself: a cluster as real ones are, that ends for certain; binaries found where one expects them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from devtools.kubernetes import (
    Api,
    ApiError,
    BinariesMissing,
    Cluster,
    binaries,
    find_binary,
    foreign,
    temporary_cluster,
)
from devtools.kubernetes.api import POLL_SECONDS

SECONDS = 30.0
ROOT = Path(__file__).parents[3]


def wait_until_gone(path: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while path.exists():
        assert time.monotonic() < deadline, f"{path} is still there"
        time.sleep(POLL_SECONDS)


def exists(api: Api, path: str) -> bool:
    try:
        api.call("GET", path)
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True


def test_a_service_account_has_no_rights_that_nobody_gave_it(
    api_server: Cluster, namespace: str, tmp_path: Path
) -> None:
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    api_server.admin.call("POST", path, {"metadata": {"name": "somebody"}})
    token = api_server.admin.service_account_token(namespace, "somebody")
    somebody = Api(api_server.url, ca=api_server.ca, token=token)
    with pytest.raises(ApiError, match=f"system:serviceaccount:{namespace}:somebody") as error:
        somebody.call("GET", f"/api/v1/namespaces/{namespace}/secrets")
    assert error.value.status == 403
    mine = api_server.service_account_kubeconfig(tmp_path / "kubeconfig", namespace=namespace, name="somebody")
    assert mine.stat().st_mode & 0o777 == 0o600
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "--kubeconfig", mine, "auth", "whoami"], capture_output=True, text=True, check=True)
    assert f"system:serviceaccount:{namespace}:somebody" in done.stdout


def test_a_namespace_goes_with_all_that_is_in_it(api_server: Cluster) -> None:
    admin, path = api_server.admin, "/api/v1/namespaces/short-lived"
    admin.call("POST", "/api/v1/namespaces", {"metadata": {"name": "short-lived"}})
    admin.call("POST", f"{path}/configmaps", {"metadata": {"name": "content"}})
    admin.call("DELETE", path)
    deadline = time.monotonic() + SECONDS
    while exists(admin, path):
        assert time.monotonic() < deadline, f"{path} is still there"
        time.sleep(POLL_SECONDS)


def test_it_ends_with_all_its_files() -> None:
    with temporary_cluster() as cluster:
        assert cluster.admin.call("GET", "/version")["gitVersion"] == binaries.KUBERNETES
    assert not cluster.folder.exists()
    assert _still_running(cluster.folder) == []


def test_it_ends_when_its_owner_is_killed() -> None:
    program = (
        "import sys; from devtools.kubernetes import temporary_cluster\n"
        "with temporary_cluster() as cluster: print(cluster.folder, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as owner:
        assert owner.stdout is not None
        folder = Path(owner.stdout.readline().strip())
        assert len(_still_running(folder)) >= 3
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    wait_until_gone(folder)
    assert _still_running(folder) == []


def test_a_folder_of_binaries_is_taken_before_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(binaries.ASSETS, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(BinariesMissing, match="is not built yet"):
        find_binary("etcd")
    (tmp_path / "etcd").touch(mode=0o755)
    assert find_binary("etcd") == tmp_path / "etcd"
    assert binaries.missing() == ["kube-apiserver", "kube-controller-manager", "helm", "helm3", "definitions"]
    monkeypatch.setenv("PATH", str(tmp_path))
    said = "no kube-apiserver, kube-controller-manager, helm, helm3, definitions: there is no Go"
    assert str(binaries.why_missing()).startswith(said)


def test_two_builds_at_once_build_once(tmp_path: Path) -> None:
    """With a compiler that takes note of its calls."""
    module = tmp_path / "module"
    for file in (file for files in foreign.FILES.values() for file in files):
        (module / file).parent.mkdir(parents=True, exist_ok=True)
        (module / file).touch()
    go = tmp_path / "go"
    go.write_text(
        f'#!/bin/sh\necho "$*" >>{tmp_path}/calls\n'
        f'if [ "$1" = mod ]; then echo \'{{"Dir": "{module}"}}\'; exit; fi\n'
        'while [ "$1" != -o ]; do shift; done\n: >"$2"; chmod +x "$2"\n'
    )
    go.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.defpath}", "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "devtools.kubernetes", "build"]
    both = [subprocess.Popen(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(2)]
    said = b"".join(each.communicate()[0] for each in both).decode()
    assert [each.returncode for each in both] == [0, 0]
    calls = (tmp_path / "calls").read_text().splitlines()
    made = ["v3", "kube-apiserver", "kube-controller-manager", "helm", "helm", "prometheus-operator", "gateway-api"]
    assert [call.rpartition("/")[2] for call in calls] == made
    assert said.count("made helm in") == 1
    assert not list((tmp_path / "cache").glob("**/unfinished-*"))


@pytest.mark.parametrize("ci", ["", "true"])
def test_without_go_a_person_is_told_and_ci_fails(tmp_path: Path, ci: str) -> None:
    environment = {"PATH": str(tmp_path), "HOME": str(tmp_path), "CI": ci}
    for arguments in (["devtools.kubernetes", "build"], ["pytest", "-n", "0", "tests/kubernetes/crds", "--co"]):
        done = subprocess.run(
            [sys.executable, "-m", *arguments], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        assert "there is no Go to build them" in said
        assert (done.returncode in (0, 5)) is (ci != "true"), said


def _still_running(folder: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in command:
            found.append(command.decode(errors="replace"))
    return found
