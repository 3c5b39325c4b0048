"""The command line starts without what only some commands need."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["services.cli.__main__", "services.cli.kubernetes.__main__"])
def test_the_client_of_kubernetes_is_imported_when_it_is_needed(module: str) -> None:
    code = f"import sys, {module}; assert 'kubernetes' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
