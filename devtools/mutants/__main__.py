"""Runs the planted faults: `python -m devtools.mutants [NAME…]`, with no name all of them."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from devtools.loopback import drop_real_world
from devtools.mutants import faults, kubernetes
from devtools.mutants.fault import Fault
from devtools.postgres import temporary_server

ROOT = Path(__file__).parents[2]
FAULTS = faults.FAULTS + kubernetes.FAULTS
TEST_SECONDS = 300
TESTS_FAILED = 1
"""pytest's exit code for it; any other says that the tests did not run."""


def main(names: Sequence[str]) -> int:
    """Answers 0 when every fault was noticed by every test that is named for it."""
    unknown = set(names) - {fault.name for fault in FAULTS}
    if unknown:
        print(f"mutants: no such fault: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    chosen = [fault for fault in FAULTS if not names or fault.name in names]
    console = Console()
    with tempfile.TemporaryDirectory(prefix="nexus-auth-mutants-") as folder, temporary_server() as server:
        copy = _copy(Path(folder) / "checkout")
        environment = _environment(copy, database_url=server.admin_url())
        tests = sorted({test for fault in chosen for test in fault.tests})
        console.print(f"{len(chosen)} faults, {len(tests)} tests; first without a fault …")
        sound, output = _run(copy, tests, environment=environment)
        if sound != 0:
            console.print(output, markup=False, highlight=False)
            console.print("mutants: these tests must pass before a fault can turn them red", style="bold red")
            return 1
        results = [(fault, _plant(copy, fault, environment=environment, console=console)) for fault in chosen]
    console.print(_table(results))
    survived = [fault.name for fault, (problem, _) in results if problem]
    console.print(f"{len(results) - len(survived)} passed, {len(survived)} failed", highlight=False)
    return 1 if survived else 0


def _plant(copy: Path, fault: Fault, *, environment: dict[str, str], console: Console) -> tuple[str, float]:
    """What went wrong with a fault (empty: it was noticed), and the seconds that it took."""
    file = copy / fault.file
    sound = file.read_text("utf-8")
    started = time.monotonic()
    if sound.count(fault.before) != 1:
        problem = f"{fault.file} does not hold the place exactly once: the fault must be written anew"
    else:
        file.write_text(sound.replace(fault.before, fault.after), "utf-8")
        try:
            problem = _unnoticed(copy, fault, environment=environment)
        finally:
            file.write_text(sound, "utf-8")
    seconds = time.monotonic() - started
    console.print(
        f"  {'SURVIVED' if problem else 'noticed '} {fault.name} ({seconds:.0f} s) {problem}", highlight=False
    )
    return problem, seconds


def _unnoticed(copy: Path, fault: Fault, *, environment: dict[str, str]) -> str:
    for test in fault.tests:
        code, output = _run(copy, [test], environment=environment)
        if code == 0:
            return f"{test} stays green"
        if code != TESTS_FAILED or f"FAILED {test.partition('[')[0]}" not in output:
            return f"{test} did not run: {output[-600:]}"
    return ""


def _run(copy: Path, tests: Sequence[str], *, environment: dict[str, str]) -> tuple[int, str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-rf",
        "--no-header",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        *tests,
    ]
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TEST_SECONDS * max(1, len(tests) // 4),
        )
    except subprocess.TimeoutExpired:
        return -1, "it ran out of time"
    return done.returncode, done.stdout + done.stderr


def _copy(target: Path) -> Path:
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
    return target


def _environment(copy: Path, *, database_url: str) -> dict[str, str]:
    environment = dict(os.environ)
    drop_real_world(environment)
    # The faults are about promises, not about chance: few examples are enough, and the same ones each time.
    return environment | {"PYTHONPATH": str(copy), "DATABASE_URL": database_url, "CI": "false"}


def _table(results: Sequence[tuple[Fault, tuple[str, float]]]) -> Table:
    table = Table("fault", "promise", "noticed by", "", title="Planted faults")
    for fault, (problem, _) in results:
        tests = "\n".join(test.rpartition("::")[2] for test in fault.tests)
        table.add_row(fault.name, fault.promise, tests, "[bold red]SURVIVED[/]" if problem else "[green]noticed[/]")
    return table


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
