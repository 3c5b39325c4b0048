"""The table of the chart's README is read off values.yaml, and a value without a word is an error."""

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


def test_the_readme_is_what_values_say() -> None:
    assert main("--check") == 0


def test_a_readme_that_says_something_else_is_found_and_mended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("README.md", "values.yaml"):
        shutil.copy(CHART / name, tmp_path / name)
    values = tmp_path / "values.yaml"
    values.write_text(values.read_text() + "# -- A new one.\nfresh: 1\n")
    assert main("--check", chart=tmp_path) == 1
    assert "make chart-docs" in capsys.readouterr().err
    assert main(chart=tmp_path) == 0
    assert "| `fresh` | `1` | A new one. |" in (tmp_path / "README.md").read_text()
    assert main("--check", chart=tmp_path) == 0
