"""The bundle for support: secrets are planted wherever they could be, and looked for in every file of it."""

import base64
import tarfile
from pathlib import Path

from tests.kubernetes.cli.commands import Nexus, Objects, condition, in_step

KEY = "sk_live_Plant3dKeyThatNobodyMaySee"
PASSWORD = "pl4nted+pass%2Fword"
URL = f"postgresql://login:{PASSWORD}@db:5432/app"
UNREADABLE = "whsec_cGxhbnRlZC1pbi1hLW1lc3NhZ2U"
FOREIGN = "hunter2-hunter2"
ENVIRONMENT = "planted-in-an-environment"
LONG = "planted " + "-".join(f"word{number}" for number in range(40))


def plant(objects: Objects) -> None:
    """A database's URL, keys and a foreign password: in Secrets, annotations, messages, Events and environments."""
    objects.secret("clerk", secret_key=KEY)
    objects.secret("database", url=URL, note=LONG)
    objects.secret("foreign", password=FOREIGN)
    applied = '{"data": {"url": "' + base64.b64encode(URL.encode()).decode() + '"}}'
    said = f"{KEY} is refused; {URL} too; {UNREADABLE}; {LONG}"
    objects.instance(status={"conditions": [condition("Ready", "False", "UpstreamUnauthorized", said)]})
    objects.sync(status=in_step(conditions=[condition("Ready", "False", "DatabaseRefused", said)]))
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": applied, "note": f"Bearer {PASSWORD}-{PASSWORD}"}
    objects.admin.call(
        "PATCH",
        objects.path("clerksyncs", "app"),
        {"metadata": {"annotations": annotations}},
        content="application/merge-patch+json",
    )
    involved = {"kind": "ClerkSync", "name": "app", "namespace": objects.namespace}
    event = {"metadata": {"name": "app.1"}, "involvedObject": involved, "reason": "Odd", "message": said}
    objects.admin.call("POST", objects.core("events"), {**event, "type": "Warning"})
    labels = {"app.kubernetes.io/name": "nexus-auth", "app.kubernetes.io/component": "operator"}
    container = {
        "name": "operator",
        "image": "nexus-auth:1",
        "env": [
            {"name": "DATABASE_PASSWORD", "value": ENVIRONMENT},
            {"name": "NEXUS_AUTH_DATABASE_URL", "value": ENVIRONMENT},
            {"name": "NEXUS_AUTH_CONCURRENCY", "value": "four"},
        ],
    }
    volumes = [{"name": "of", "secret": {"secretName": "database"}}]
    spec = {"containers": [container], "volumes": volumes, "automountServiceAccountToken": False}
    objects.admin.call(
        "POST", objects.core("pods"), {"metadata": {"name": "operator-1", "labels": labels}, "spec": spec}
    )


def test_no_planted_secret_is_in_any_file(nexus: Nexus, objects: Objects, tmp_path: Path) -> None:
    plant(objects)
    file = tmp_path / "bundle.tar.gz"
    ran = nexus("report", "--file", str(file))
    assert ran.code == 0, ran.err
    assert file.stat().st_mode & 0o777 == 0o600
    with tarfile.open(file) as archive:
        files = {of.name.partition("/")[2]: archive.extractfile(of).read().decode() for of in archive}  # type: ignore[union-attr]
    everything = "\n".join(files.values())
    planted = (KEY, PASSWORD, UNREADABLE, FOREIGN, ENVIRONMENT, LONG, "word17-word18")
    for secret in planted:
        assert secret not in everything
        assert base64.b64encode(secret.encode()).decode() not in everything
    assert base64.b64encode(URL.encode()).decode() not in everything
    assert "is refused" in files["clerksyncs.yaml"]
    assert "is refused" in files["events.yaml"]
    assert "four" in files["pods.yaml"]
    assert f"url: {len(URL)} bytes" in files["secrets.yaml"]
    assert "foreign" not in everything
    assert files["versions.yaml"].count("nexus-auth:1") == 1
    assert "logs/" in str(list(files))
    assert "customresourcedefinitions" not in files["missing.txt"]


def test_a_report_never_replaces_a_file(nexus: Nexus, objects: Objects, tmp_path: Path) -> None:
    file = tmp_path / "bundle.tar.gz"
    file.write_text("mine")
    ran = nexus("report", "--file", str(file))
    assert ran.code == 1
    assert "cannot be written" in ran.err
    assert file.read_text() == "mine"
