"""The list of what the image is made of is the list that it installs from."""

import json
from pathlib import Path

import pytest

from devtools.sbom import REQUIREMENTS, document, main


def test_every_pin_is_a_component_with_its_hashes() -> None:
    pins = [line.split("==")[0] for line in REQUIREMENTS.read_text().splitlines() if "==" in line and line[0] != " "]
    components = document(version="1")["components"]
    assert len(components) == len(pins)
    assert all(component["properties"] for component in components)
    asyncpg = next(component for component in components if component["name"] == "asyncpg")
    assert asyncpg["purl"] == f"pkg:pypi/asyncpg@{asyncpg['version']}"
    assert asyncpg["licenses"] == [{"license": {"name": "Apache-2.0"}}]


def test_the_same_input_gives_the_same_document() -> None:
    assert document(version="1") == document(version="1")
    assert document(version="1")["serialNumber"] != document(version="2")["serialNumber"]


def test_it_is_written_where_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "deep" / "sbom.json"
    monkeypatch.setattr("sys.argv", ["sbom", str(file)])
    assert main() == 0
    read = json.loads(file.read_text())
    assert read["bomFormat"] == "CycloneDX"
    assert read["metadata"]["component"]["version"] == "0.1.0"


def test_without_a_file_it_says_how_it_is_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["sbom"])
    assert main() == 2
    assert "usage" in capsys.readouterr().err
