"""`make` alone shows the whole workflow."""

import re
import subprocess

from tests.process import ROOT


def test_make_shows_every_target_that_a_person_calls() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    help_command = ["make", "--no-print-directory", "help"]
    told = subprocess.run(help_command, cwd=ROOT, capture_output=True, text=True, check=True)
    shown = re.findall(r"^  make (\S+) +\S", told.stdout, re.MULTILINE)
    assert sorted(shown) == sorted(set(phony[1].split()) - {"install"})
    assert "e2e" in shown
