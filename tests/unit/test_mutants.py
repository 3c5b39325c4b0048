"""Planted faults are chosen by name, by row of the cases, or by the letter of rows."""

import pytest

from devtools.mutants.__main__ import FAULTS
from devtools.mutants.checkout import ROOT
from devtools.mutants.fault import Fault, chosen


def fault(name: str, row: str = "", tests: tuple[str, ...] = ("tests/unit/test_a.py::test_b",)) -> Fault:
    return Fault(name, "a promise", "file", "before", "after", tests, row=row)


SOME = (fault("first"), fault("second", "D1"), fault("third", "D12"), fault("fourth", "R1"))


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["first", "second", "third", "fourth"]),
        (["D"], ["second", "third"]),
        (["D1"], ["second"]),
        (["D", "R"], ["second", "third", "fourth"]),
        (["first", "R1"], ["first", "fourth"]),
    ],
)
def test_a_word_selects_by_name_by_row_or_by_the_rows_letter(words: list[str], names: list[str]) -> None:
    assert [one.name for one in chosen(SOME, words)] == names


def test_a_word_that_selects_nothing_is_named() -> None:
    with pytest.raises(ValueError, match="D2, firs"):
        chosen(SOME, ["D", "D2", "firs"])


def test_faults_with_an_api_server_run_first() -> None:
    slow = fault("slow", tests=("tests/kubernetes/cli/test_a.py::test_b",))
    assert chosen((*SOME, slow), [])[0] is slow


def test_every_fault_has_a_name_of_its_own_and_stands_exactly_once_in_its_file() -> None:
    assert len({one.name for one in FAULTS}) == len(FAULTS)
    files = {one.file: ROOT / one.file for one in FAULTS}
    texts = {name: file.read_text() if file.is_file() else "" for name, file in files.items()}
    assert [(one.name, one.file) for one in FAULTS if texts[one.file].count(one.before) != 1] == []


def test_every_case_of_lost_data_and_of_runs_that_end_unseen_has_a_fault() -> None:
    rows = {f"D{number}" for number in range(1, 11)} | {f"R{number}" for number in range(1, 18)}
    assert rows - {one.row for one in FAULTS} == set()
