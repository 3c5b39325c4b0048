"""kubectl finds the program by its name on PATH."""

import os
import subprocess
import sys
from pathlib import Path

from tests.kubernetes.cli.commands import Nexus, Objects, in_step


def test_kubectl_runs_it_as_a_command_of_its_own(nexus: Nexus, objects: Objects, tmp_path: Path) -> None:
    objects.sync(status=in_step())
    programs = Path(sys.executable).parent
    done = subprocess.run(
        [str(programs / "kubectl"), "nexus", "status", "-n", objects.namespace],
        env={"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path), "KUBECONFIG": str(nexus.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"{objects.namespace}/app" in done.stdout
    assert done.stderr == ""
