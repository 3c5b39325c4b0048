"""The chart as a package: linted, described for catalogues, and whole when it is packed."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from devtools.kubernetes import find_binary, prepare
from tests.kubernetes.chart.rendering import BASE, CHART, RELEASE, rendered

META = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
pytestmark = pytest.mark.kubernetes


def helm(*arguments: str, program: str = "helm") -> str:
    """Any command of helm, with the least values."""
    prepare(print)
    command = [str(find_binary(program)), *arguments, "--values", "-"]
    ran = subprocess.run(command, input=json.dumps(BASE), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.mark.parametrize("program", ["helm", "helm3"])
def test_it_is_linted_without_a_warning(program: str) -> None:
    said = helm("lint", "--strict", str(CHART), program=program)
    assert "0 chart(s) failed" in said
    assert "[WARNING]" not in said


def test_packed_it_renders_the_same(tmp_path: Path) -> None:
    """The CRDs are a link to those of the repository: a package must hold the files."""
    subprocess.run([find_binary("helm"), "package", CHART, "--destination", tmp_path], check=True, capture_output=True)
    (package,) = tmp_path.iterdir()
    assert package.name == f"nexus-auth-{META['version']}.tgz"
    packed = helm("template", RELEASE, str(package))
    assert packed == helm("template", RELEASE, str(CHART))
    assert packed.count("kind: CustomResourceDefinition") == 2


def test_catalogues_are_told_of_every_kind_and_image() -> None:
    told = {entry["name"]: entry for entry in yaml.safe_load(META["annotations"]["artifacthub.io/crds"])}
    made = {item["metadata"]["name"]: item for item in rendered().all if item["kind"] == "CustomResourceDefinition"}
    assert set(told) == set(made)
    for name, item in made.items():
        assert told[name]["kind"] == item["spec"]["names"]["kind"]
        assert told[name]["version"] in {version["name"] for version in item["spec"]["versions"]}
    images = {entry["image"] for entry in yaml.safe_load(META["annotations"]["artifacthub.io/images"])}
    assert images == {c["image"] for pod in rendered().pods().values() for c in pod["containers"]}
    assert META["annotations"]["artifacthub.io/license"] == "Apache-2.0"
