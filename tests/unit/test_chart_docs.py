"""README and schema of the chart are held to values.yaml, and a value without a word is an error."""

import json
import shutil
from pathlib import Path

import pytest

from devtools.chart.__main__ import CHART, main
from devtools.chart.values import Undocumented, Value, read_values


def test_a_comment_of_several_lines_becomes_one_row() -> None:
    source = "# Not a row.\nouter:\n  # -- First line,\n  # second line.\n  inner: 3\n"
    assert read_values(source) == [Value("outer.inner", 3, "First line, second line.")]


def test_a_comment_above_a_mapping_covers_what_is_in_it() -> None:
    source = "# -- Resources.\nresources:\n  limits:\n    memory: 1Mi\n"
    assert read_values(source) == [Value("resources", {"limits": {"memory": "1Mi"}}, "Resources.")]


def test_a_comment_belongs_to_the_line_right_below_it() -> None:
    with pytest.raises(Undocumented, match=r"says nothing about b$"):
        read_values("# -- Of a.\na: 1\nb: 2\n")
    with pytest.raises(Undocumented, match=r"says nothing about a$"):
        read_values("# -- Of nothing.\n\na: 1\n")


def test_readme_and_schema_are_what_values_say() -> None:
    assert main("--check") == 0


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """A copy that may be changed."""
    for name in ("README.md", "values.yaml", "values.schema.json"):
        shutil.copy(CHART / name, tmp_path / name)
    return tmp_path


def changed(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def test_what_says_something_else_is_found_and_mended(chart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(chart / "values.yaml", "# -- Run the webhook receiver.", "# -- Run it.")
    assert main("--check", chart=chart) == 1
    said = capsys.readouterr().err
    assert "README.md of the chart is not what values.yaml says: make chart-docs" in said
    assert "values.schema.json of the chart is not what values.yaml says" in said
    assert main(chart=chart) == 0
    assert "| `webhook.enabled` | `true` | Run it. |" in (chart / "README.md").read_text()
    schema = json.loads((chart / "values.schema.json").read_text())
    assert schema["properties"]["webhook"]["properties"]["enabled"] == {"description": "Run it.", "type": "boolean"}
    assert main("--check", chart=chart) == 0


def test_a_value_that_the_schema_does_not_know_is_found(chart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(chart / "values.yaml", "nameOverride:", "nameOverridden:")
    assert main("--check", chart=chart) == 1
    assert "values.schema.json does not know nameOverridden" in capsys.readouterr().err


def test_a_property_without_a_value_is_found(chart: Path, capsys: pytest.CaptureFixture[str]) -> None:
    properties = '"autoscaling": {\n     "type": "object",\n     "additionalProperties": false,\n     "properties": {\n'
    changed(chart / "values.schema.json", properties, properties + '      "byMemory": {"type": "boolean"},\n')
    assert main(chart=chart) == 1
    assert "values.yaml does not have webhook.autoscaling.byMemory of" in capsys.readouterr().err
