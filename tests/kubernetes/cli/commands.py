"""`kubectl nexus` as a test calls it, and an operator's part played through the API."""

import base64
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from devtools.kubernetes import Cluster
from services.cli.kubernetes.__main__ import main
from tests.commandline import Ran

OURS = "/apis/nexus-auth.dev/v1alpha1"
MERGE = "application/merge-patch+json"
AT = "2026-11-25T08:00:00Z"
SECONDS = 20.0


class Nexus:
    """Calls commands in one namespace, in this process."""

    def __init__(self, kubeconfig: Path, *, namespace: str) -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace

    def __call__(self, *arguments: str, stdin: str = "", **environment: str) -> Ran:
        """Runs one command to its end; a traceback fails the test."""
        env = {"KUBECONFIG": str(self.kubeconfig), **environment}
        done = CliRunner().invoke(main, [*arguments, "-n", self.namespace], env=env, input=stdin, prog_name="nexus")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ran(done.exit_code, done.stdout, done.stderr)


class Objects:
    """The administrator, who also writes what an operator would."""

    def __init__(self, cluster: Cluster, *, namespace: str) -> None:
        self.admin = cluster.admin
        self.namespace = namespace

    def path(self, plural: str, name: str = "") -> str:
        """Of an object or a collection."""
        return f"{OURS}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def core(self, plural: str, name: str = "") -> str:
        """Of one of Kubernetes' own."""
        return f"/api/v1/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def secret(self, name: str, **data: str) -> None:
        """A Secret; underscores are dashes."""
        encoded = {key.replace("_", "-"): base64.b64encode(value.encode()).decode() for key, value in data.items()}
        body = {"metadata": {"name": name}, "data": encoded}
        self.admin.call("POST", self.core("secrets"), body)

    def instance(self, name: str = "production", status: Mapping[str, Any] | None = None, **spec: Any) -> None:
        """A ClerkInstance."""
        usual = {
            "secretKeyRef": {"name": "clerk"},
            "environment": "Production",
            "stateDatabase": {"secretRef": {"name": "database"}},
        }
        self._create("clerkinstances", "ClerkInstance", name, usual | spec)
        if status is not None:
            self.say(name, status, plural="clerkinstances")

    def sync(self, name: str = "app", status: Mapping[str, Any] | None = None, **spec: Any) -> None:
        """A ClerkSync."""
        usual = {"instanceRef": {"name": "production"}, "database": {"secretRef": {"name": "database"}}}
        self._create("clerksyncs", "ClerkSync", name, usual | spec)
        if status is not None:
            self.say(name, status)

    def apply(self, document: Mapping[str, Any]) -> None:
        """A Deployment as the chart renders it, here."""
        here = {**document, "metadata": {**document["metadata"], "namespace": self.namespace}}
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{here['metadata']['name']}"
        self.admin.apply(here, path=path)

    def get(self, name: str = "app") -> Any:
        """A ClerkSync."""
        return self.admin.call("GET", self.path("clerksyncs", name))

    def say(self, name: str, status: Mapping[str, Any], *, plural: str = "clerksyncs") -> None:
        """Writes into the status."""
        self.admin.call("PATCH", self.path(plural, name) + "/status", {"status": dict(status)}, content=MERGE)

    @contextmanager
    def operator(self, name: str, answer: Callable[[Mapping[str, str]], Mapping[str, Any] | None]) -> Iterator[None]:
        """Answers annotations by a status, once."""

        def work() -> None:
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline:
                status = answer(self.get(name)["metadata"].get("annotations") or {})
                if status is not None:
                    self.say(name, status)
                    return
                time.sleep(0.05)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            thread.join()

    def _create(self, plural: str, kind: str, name: str, spec: Mapping[str, Any]) -> None:
        body = {"apiVersion": "nexus-auth.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": dict(spec)}
        self.admin.call("POST", self.path(plural), body)


def condition(
    type_: str, status: str, reason: str, message: str = "so it is", *, generation: int = 1
) -> dict[str, Any]:
    """A condition as the operator writes it."""
    said = {"type": type_, "status": status, "reason": reason, "message": message}
    return {**said, "observedGeneration": generation, "lastTransitionTime": AT}


def run(number: int = 7, **changes: Any) -> dict[str, Any]:
    """A run as status.lastSync has it."""
    usual = {"id": number, "mode": "full", "reason": "Requested", "state": "completed", "requests": 12}
    return {**usual, "startTime": AT, "completionTime": AT, **changes}


def in_step(**changes: Any) -> dict[str, Any]:
    """The status of a ClerkSync with nothing amiss."""
    resource = {"name": "users", "live": 1234, "missing": 0, "stale": 0, "extra": 0, "edited": 0}
    usual = {
        "observedGeneration": 1,
        "conditions": [condition("Ready", "True", "InSync"), condition("DriftDetected", "False", "InSync")],
        "lastSync": run(),
        "lastSuccessTime": AT,
        "resources": [{**resource, "repaired": 3, "tombstoned": 0}],
        "drift": {"total": 0},
    }
    return {**usual, **changes}


def drifted(*ids: str, total: int) -> dict[str, Any]:
    """The status of a ClerkSync that reports drift."""
    items = [{"resource": "users", "id": of, "problem": "missing", "cause": "never received"} for of in ids]
    conditions = [
        condition("Ready", "True", "SyncedWithDrift"),
        condition("DriftDetected", "True", "SyncedWithDrift", f"{total} objects differ"),
    ]
    return in_step(conditions=conditions, drift={"total": total, "since": AT, "items": items})


def parked(number: int = 41) -> dict[str, Any]:
    """The status of a ClerkSync whose run waits for an approval."""
    return in_step(
        conditions=[condition("Ready", "False", "DeletionGuardTripped", f"run {number} would delete 11 users")],
        parkedRun=number,
        parkedRuns=[{"id": number, "resource": "users", "approved": False}],
        lastSync=run(number, state="parked"),
        history=[run(8, state="parked", runs=[{"id": number - 1, "resource": "users", "state": "parked"}])],
    )
