"""What a cluster has against a command is one sentence and exit code 5."""

from pathlib import Path
from typing import Any

import yaml

from devtools.kubernetes import Cluster
from tests.kubernetes.cli.commands import Nexus, Objects, in_step


def changed(kubeconfig: Path, target: Path, **changes: Any) -> Path:
    """A kubeconfig with another user or server."""
    config = yaml.safe_load(kubeconfig.read_text())
    if "token" in changes:
        for user in config["users"]:
            user["user"] = {"token": changes["token"]}
    if "server" in changes:
        for cluster in config["clusters"]:
            cluster["cluster"]["server"] = changes["server"]
    target.write_text(yaml.safe_dump(config))
    target.chmod(0o600)
    return target


def test_a_server_that_is_away(nexus: Nexus, tmp_path: Path) -> None:
    nexus.kubeconfig = changed(nexus.kubeconfig, tmp_path / "away", server="https://127.0.0.1:1")
    ran = nexus("status")
    assert ran.code == 5
    assert "cannot be reached" in ran.err
    assert "Traceback" not in ran.err
    assert "HTTPSConnection" not in ran.err


def test_a_token_that_is_not_accepted(nexus: Nexus, tmp_path: Path) -> None:
    nexus.kubeconfig = changed(nexus.kubeconfig, tmp_path / "stranger", token="nobodys")
    ran = nexus("status")
    assert ran.code == 5
    assert "does not accept who you are; log in again" in ran.err
    assert "nobodys" not in ran.err


def test_somebody_without_rights(nexus: Nexus, objects: Objects, api_server: Cluster, tmp_path: Path) -> None:
    objects.admin.call("POST", objects.core("serviceaccounts"), {"metadata": {"name": "guest"}})
    token = api_server.admin.service_account_token(objects.namespace, "guest")
    objects.sync(status=in_step())
    nexus.kubeconfig = changed(nexus.kubeconfig, tmp_path / "guest", token=token)
    for command in (("status",), ("sync", "app"), ("suspend", "app"), ("findings", "app"), ("plan",), ("logs",)):
        ran = nexus(*command)
        assert ran.code == 5, (command, ran)
        assert "does not allow it" in ran.err
    ran = nexus("report", "--file", str(tmp_path / "report"))
    assert ran.code == 0
    assert "not in it: ClerkSyncs: " in ran.err
    assert "annotations" not in objects.get()["metadata"]


def test_a_context_or_kubeconfig_that_is_not_there(nexus: Nexus, tmp_path: Path) -> None:
    ran = nexus("status", "--context", "nowhere")
    assert ran.code == 5
    assert "the kubeconfig has no context nowhere (it has: " in ran.err
    ran = nexus("status", "--kubeconfig", str(tmp_path / "none"))
    assert ran.code == 5
    assert "the kubeconfig cannot be used" in ran.err


def test_a_sync_that_does_not_exist_is_an_answer_and_no_trouble_of_the_cluster(nexus: Nexus) -> None:
    ran = nexus("suspend", "nowhere")
    assert ran.code == 1
    assert "there is no such object" in ran.err
