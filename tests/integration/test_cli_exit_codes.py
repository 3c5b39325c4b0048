"""One rule for exit codes, as docs/reference/exit-codes.md states it."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from devtools.postgres import Database
from tests.commandline import CommandLine, store
from tests.events import event, user

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "exit-codes.md"


@pytest.fixture
def nexus_auth(database: Database, tmp_path: Path) -> CommandLine:
    store(database, event("user.created", user("user_ada")))
    return CommandLine.of(database, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("replay", "--id", "msg_nope"), "no event that matches is, or speaks of, msg_nope"),
        (("replay", "--id", "user_ada", "--id", "msg_nope"), "no event that matches is, or speaks of, msg_nope"),
        (("inbox", "show", "msg_nope"), "no event msg_nope was ever received"),
        (("inbox", "verify", "msg_nope"), "not in the inbox: msg_nope"),
        (("approve", "9999", "--yes"), "there is no run 9999"),
        (("findings", "--run", "9999"), "there is no run 9999"),
        (("explain", "user_nobody"), "nothing is known of user_nobody"),
    ],
)
def test_what_is_named_and_does_not_exist_ends_with_1(
    nexus_auth: CommandLine, arguments: tuple[str, ...], sentence: str
) -> None:
    ran = nexus_auth(*arguments)
    assert (ran.code, sentence in ran.err) == (1, True), ran


@pytest.mark.parametrize(
    "arguments", [("replay", "--state", "parked"), ("replay", "--id", "user_ada"), ("inbox", "list", "--id", "nope")]
)
def test_a_search_without_a_match_ends_with_0(nexus_auth: CommandLine, arguments: tuple[str, ...]) -> None:
    assert nexus_auth(*arguments).code == 0


def test_the_version_is_told(tmp_path: Path) -> None:
    ran = CommandLine(tmp_path)("--version")
    assert (ran.code, ran.out) == (0, f"nexus-auth {version('nexus-auth')}\n")


def test_the_help_and_the_page_agree_on_the_codes(tmp_path: Path) -> None:
    helped = CommandLine(tmp_path)("--help").out
    told = set(re.findall(r"^ +(\d+) {2,}\S", helped, re.MULTILINE))
    assert told == set(re.findall(r"^\| (\d+) \|", PAGE.read_text("utf-8"), re.MULTILINE)) - {"5"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["status"], ["status", "--output", "json"], ["inbox", "list"]])
def test_a_full_disk_is_one_sentence_and_exit_1(nexus_auth: CommandLine, tmp_path: Path, arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "services.cli", *arguments],
            env={**nexus_auth.environment, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(PAGE.parents[2])},
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (
        1,
        "Error: standard output cannot be written (No space left on device)\n",
    )
