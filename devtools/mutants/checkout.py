"""A scratch copy of the checkout with a Postgres of its own, in which faults are planted one after the other."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from devtools.loopback import drop_real_world
from devtools.mutants.fault import Fault
from devtools.postgres import temporary_server

ROOT = Path(__file__).parents[2]
TEST_SECONDS = 300
TESTS_FAILED = 1
"""pytest's exit code for it; any other says that the tests did not run."""

PYTEST = (
    *(sys.executable, "-m", "pytest", "-x", "-q", "-rf", "--no-header", "--tb=short", "-p", "no:cacheprovider"),
    "--hypothesis-seed=1",
)


class Checkout:
    """A copy and the environment of the tests that run in it."""

    def __init__(self, folder: Path, *, database_url: str) -> None:
        """`scratch_checkout` makes one."""
        self._folder = folder
        environment = dict(os.environ)
        drop_real_world(environment)
        # The faults are about promises, not about chance: few examples are enough, and the same ones each time.
        known = {"PYTHONPATH": str(folder), "DATABASE_URL": database_url, "CI": "false", "NEXUS_AUTH_TEST_SHRINK": "0"}
        self._environment = environment | known

    def problem_with(self, fault: Fault) -> str:
        """Plants the fault, runs its tests and takes it back; answers what is wrong, nothing where each test failed."""
        file = self._folder / fault.file
        if not file.is_file():
            return f"there is no {fault.file}: the fault must be written anew"
        sound = file.read_text("utf-8")
        if sound.count(fault.before) != 1:
            return f"{fault.file} does not hold the place exactly once: the fault must be written anew"
        file.write_text(sound.replace(fault.before, fault.after), "utf-8")
        try:
            return self._unnoticed(fault)
        finally:
            file.write_text(sound, "utf-8")

    def run(self, tests: Sequence[str], *, processes: int = 0) -> tuple[int, str]:
        """Runs tests until one fails; answers pytest's exit code (-1: out of time) and what it printed."""
        parallel = ("--numprocesses", str(processes), "--dist", "worksteal") if processes > 1 else ()
        try:
            done = subprocess.run(
                (*PYTEST, *parallel, *tests),
                cwd=self._folder,
                env=self._environment,
                capture_output=True,
                text=True,
                timeout=TEST_SECONDS * max(1, len(tests) // 4),
            )
        except subprocess.TimeoutExpired:
            return -1, "it ran out of time"
        return done.returncode, done.stdout + done.stderr

    def _unnoticed(self, fault: Fault) -> str:
        for test in fault.tests:
            code, output = self.run([test])
            if code == 0:
                return f"{test} stays green"
            if code != TESTS_FAILED or f"FAILED {test.partition('[')[0]}" not in output:
                return f"{test} did not run: {output[-600:]}"
        return ""


@contextmanager
def scratch_checkout(folder: Path) -> Iterator[Checkout]:
    """Copies what git tracks or would track into `folder`, and starts the server; both are gone afterwards."""
    with temporary_server(in_memory=True) as server:
        _copy(folder)
        try:
            yield Checkout(folder, database_url=server.admin_url())
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _copy(target: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)
