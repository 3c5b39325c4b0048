"""Definitions of kinds that are not ours, of which the chart makes objects: what is rendered is held to the real ones.

They are YAML in Go modules, which the go.sum in `definitions/` pins as it pins what is built: a copy in this repository
would be one that nobody brings up to date.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

MODULE = Path(__file__).with_name("definitions")
FILES: Mapping[str, tuple[str, ...]] = {
    "github.com/prometheus-operator/prometheus-operator": (
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
    ),
    "sigs.k8s.io/gateway-api": ("config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",),
}


def fetch(folder: Path) -> None:
    """Copies the definitions into a folder that is there. Raises `subprocess.CalledProcessError`: Go has said why."""
    for name, files in FILES.items():
        downloaded = subprocess.run(
            ["go", "mod", "download", "-json", name],
            cwd=MODULE,
            env={**os.environ, "GOFLAGS": "-mod=mod"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
        )
        module = Path(json.loads(downloaded.stdout)["Dir"])
        for file in files:
            shutil.copyfile(module / file, folder / Path(file).name)
