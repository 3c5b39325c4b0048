"""Writes what the image is made of as a CycloneDX document: `python -m devtools.sbom build/sbom.json`.

Read off requirements/image.txt, the very file that the image installs from with hashes, so that list and image cannot
differ. What the base image brings is its publisher's to list.
"""

import json
import re
import sys
import uuid
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
REQUIREMENTS = ROOT / "requirements" / "image.txt"
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?==(?P<version>[^\s;\\]+)(?P<marker>[^\\]*)")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def document(*, version: str) -> dict[str, Any]:
    """The whole document; the same input gives the same bytes."""
    components = [_component(block) for block in _blocks(REQUIREMENTS.read_text("utf-8"))]
    ours = f"pkg:pypi/nexus-auth@{version}"
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(components, sort_keys=True) + version)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": ours,
                "name": "nexus-auth",
                "version": version,
                "purl": ours,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": components,
        "dependencies": [{"ref": ours, "dependsOn": sorted(component["bom-ref"] for component in components)}],
    }


def _blocks(text: str) -> list[str]:
    """One requirement with its hashes each."""
    return [block for block in re.split(r"\n(?=\S)", text.strip()) if PIN.match(block)]


def _component(block: str) -> dict[str, Any]:
    pin = PIN.match(block)
    assert pin is not None
    name = re.sub(r"[-_.]+", "-", pin["name"]).lower()
    purl = f"pkg:pypi/{name}@{pin['version']}"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": pin["version"],
        "purl": purl,
        "properties": [{"name": "nexus-auth:sha256", "value": found} for found in HASH.findall(block)],
    }
    licence = _licence(name)
    if licence:
        component["licenses"] = [{"license": {"name": licence}}]
    return component


def _licence(name: str) -> str | None:
    """As the installed package declares it; None for one that this machine's Python does not need."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return None
    for field in ("License-Expression", "License"):
        if field in found and "\n" not in found[field]:
            return found[field]
    classifiers = [line.rpartition(" :: ")[2] for line in found.get_all("Classifier", []) if line.startswith("License")]
    return classifiers[0] if classifiers else None


def main() -> int:
    """Writes the file that the command line names."""
    if len(sys.argv) != 2:
        print("usage: python -m devtools.sbom FILE", file=sys.stderr)
        return 2
    chart = (ROOT / "deploy" / "helm" / "nexus-auth" / "Chart.yaml").read_text("utf-8")
    version = re.search(r"^appVersion: (\S+)$", chart, flags=re.MULTILINE)
    assert version is not None
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    content = document(version=version[1])
    target.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"{target}: {len(content['components'])} components")
    return 0


if __name__ == "__main__":
    sys.exit(main())
