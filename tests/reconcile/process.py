"""The standalone reconciler as the process that it is, and the manifests that it reads."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from devtools.clerk_emulator import Emulator
from devtools.postgres import Database
from tests.process import Process

SYNC = "main"


def write_manifests(folder: Path, *, clerk: Emulator, database: Database) -> None:
    """Manifests of a sync that repairs everything, and the secrets that they name."""
    for name, key, value in (
        ("clerk", "secretKey", clerk.secret_key),
        ("database", "url", database.url("reconciler")),
    ):
        (folder / "secrets" / name).mkdir(parents=True, exist_ok=True)
        (folder / "secrets" / name / key).write_text(value)
    secret = {"name": "database", "key": "url"}
    instance: dict[str, Any] = {
        "instanceId": clerk.instance_id,
        "apiUrl": clerk.api_url,
        "secretKeyRef": {"name": "clerk", "key": "secretKey"},
        "environment": "Production",
        "budgetPercent": 100,
        "stateDatabase": {"secretRef": secret},
    }
    sync: dict[str, Any] = {
        "instanceRef": {"name": SYNC},
        "database": {"secretRef": secret},
        "interval": "1h",
        "drift": {"policy": "Fix"},
    }
    documents = [
        {"apiVersion": "nexus-auth.dev/v1alpha1", "kind": kind, "metadata": {"name": SYNC}, "spec": spec}
        for kind, spec in (("ClerkInstance", instance), ("ClerkSync", sync))
    ]
    (folder / "manifests.yaml").write_text(yaml.safe_dump_all(documents))


def api_host(folder: Path) -> str:
    """Host and port of the Clerk that the manifests name: the only one that a key may be sent to."""
    documents = yaml.safe_load_all((folder / "manifests.yaml").read_text())
    api_url: str = next(of["spec"]["apiUrl"] for of in documents if of["kind"] == "ClerkInstance")
    return urlsplit(api_url).netloc


class Reconciler(Process):
    """One process of `python -m services.reconciler.standalone`."""

    def __init__(self, folder: Path, *, name: str, failpoints: Path | None = None) -> None:
        """`folder` holds what `write_manifests` wrote."""
        environment = {
            "NEXUS_AUTH_MANIFESTS": str(folder / "manifests.yaml"),
            "NEXUS_AUTH_SECRETS_DIR": str(folder / "secrets"),
            "NEXUS_AUTH_HEALTH_PORT": "0",
            "NEXUS_AUTH_VERIFY_AFTER": "0",
            "NEXUS_AUTH_LOOK_SECONDS": "0.1",
            "NEXUS_AUTH_API_HOSTS": api_host(folder),
        }
        if failpoints is not None:
            environment["NEXUS_AUTH_FAILPOINTS_DIR"] = str(failpoints)
        super().__init__(folder, module="services.reconciler.standalone", name=name, environment=environment)
