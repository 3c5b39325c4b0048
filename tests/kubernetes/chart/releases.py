"""helm and kubectl against an API server of the kit: pods stay Pending there, so nothing is waited for."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devtools.kubernetes import Cluster, find_binary
from tests.kubernetes.chart.rendering import BASE, CHART, RELEASE, merged

SECONDS = 60

NO_JOB: Mapping[str, Any] = {"migrations": {"enabled": False}}
"""A migration Job would be waited for, and nothing runs it here; tests/e2e does."""
OBJECTS: Mapping[str, Any] = {
    "clerkInstance": {
        "create": True,
        "spec": {"environment": "Development", "stateDatabase": {"secretRef": {"name": "database"}}},
    },
    "clerkSync": {"create": True, "spec": {"database": {"secretRef": {"name": "database"}}}},
}


@dataclass(frozen=True)
class Ran:
    """What a program ended with and said."""

    code: int
    said: str


@dataclass(frozen=True)
class Releases:
    """One API server, one namespace."""

    cluster: Cluster
    namespace: str
    kubeconfig: Path
    program: str = "helm"

    def helm(self, *arguments: str, values: Mapping[str, Any] | None = None, check: bool = True) -> Ran:
        """Any helm command here; `values` go over the least ones."""
        more = [] if values is None else ["--values", "-"]
        text = None if values is None else json.dumps(merged(BASE, merged(NO_JOB, values)))
        command = [str(find_binary(self.program)), "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace]
        return _run([*command, *arguments, *more], text=text, check=check)

    def install(
        self, values: Mapping[str, Any] = {}, *, name: str = RELEASE, check: bool = True, chart: Path = CHART
    ) -> Ran:
        """helm install."""
        return self.helm("install", name, str(chart), values=values, check=check)

    def upgrade(
        self,
        values: Mapping[str, Any] = {},
        *,
        name: str = RELEASE,
        check: bool = True,
        chart: Path = CHART,
        waiting: bool = False,
    ) -> Ran:
        """helm upgrade; `waiting`: as people and CI do it, until all is ready."""
        more = ["--wait", "--timeout", "15s"] if waiting else []
        return self.helm("upgrade", name, str(chart), *more, values=values, check=check)

    def kubectl(self, *arguments: str, text: str | None = None, check: bool = True) -> Ran:
        """Any kubectl command here."""
        program = str(Path(sys.executable).with_name("kubectl"))
        command = [program, "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace]
        return _run([*command, *arguments], text=text, check=check)

    def get(self, *what: str) -> Any:
        """An object, or a list's items."""
        read = json.loads(self.kubectl("get", *what, "-o", "json").said)
        return read["items"] if read["kind"] == "List" else read

    def there(self, *what: str) -> bool:
        """Whether an object is there."""
        return self.kubectl("get", *what, check=False).code == 0

    def may(self, verb: str, resource: str, *, where: str = "", who: str = "") -> bool:
        """Whether the API server would allow it: to us, or to `who`."""
        more = [f"--as={who}"] if who else []
        resource, _, subresource = resource.partition("/")
        if subresource:
            more.append(f"--subresource={subresource}")
        scope = ["--all-namespaces"] if where == "*" else ["--namespace", where or self.namespace]
        return self.kubectl("auth", "can-i", verb, resource, *scope, *more, check=False).said.strip() == "yes"


def _run(command: list[str], *, text: str | None, check: bool) -> Ran:
    ran = subprocess.run(command, input=text, text=True, capture_output=True, timeout=SECONDS, check=False)
    done = Ran(ran.returncode, ran.stdout if ran.returncode == 0 else ran.stdout + ran.stderr)
    assert not check or done.code == 0, f"{' '.join(command[:6])} … ended with {done.code}:\n{done.said}"
    return done
