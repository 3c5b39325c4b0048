"""Every line of every template is somewhere in these files."""

import pytest

from tests.kubernetes.chart.golden import FOLDER, RELEASES, release


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_consists_of_what_is_on_file(name: str) -> None:
    wanted = (FOLDER / f"{name}.yaml").read_text("utf-8")
    assert release(name) == wanted, "if it is meant to: .venv/bin/python -m tests.kubernetes.chart.golden"
