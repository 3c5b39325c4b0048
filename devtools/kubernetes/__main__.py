"""`make cluster`: an API server for a person, until Ctrl-C.

`build` only builds the binaries; `path NAME` builds them and tells where one is.

python -m devtools.kubernetes [--kubeconfig FILE | build | path NAME]
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from devtools.kubernetes import BinariesMissing, ClusterFailed, find_binary, prepare, temporary_cluster, why_missing

ROOT = Path(__file__).parents[2]
KUBECONFIG = ROOT / ".run" / "kubeconfig"


def main(arguments: list[str]) -> int:
    """Answers the exit code."""
    try:
        match arguments:
            case [] | ["--kubeconfig", _]:
                prepare(_say)
                return _serve(Path(arguments[1]).absolute() if arguments else KUBECONFIG)
            case ["build"]:
                return _build()
            case ["path", name]:
                prepare(lambda line: print(line, file=sys.stderr))
                print(find_binary(name))
                return 0
    except (BinariesMissing, ClusterFailed) as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"go build has failed (exit code {error.returncode})", file=sys.stderr)
        return 1
    except KeyError as error:
        print(f"there is no binary {error}", file=sys.stderr)
        return 2
    print(__doc__, file=sys.stderr)
    return 2


def _build() -> int:
    """Without Go a person's tests go on without a cluster, and say so; in CI nothing is left out silently."""
    reason = why_missing()
    if reason is not None and os.environ.get("CI") != "true":
        _say(f"left out, {reason}")
        return 0
    prepare(_say)
    return 0


def _serve(kubeconfig: Path) -> int:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    began = time.monotonic()
    with temporary_cluster() as cluster:
        cluster.admin.install_definitions(ROOT / "crds")
        kubeconfig.parent.mkdir(mode=0o700, exist_ok=True)
        ours = cluster.write_kubeconfig(kubeconfig, token=cluster.token).read_bytes()
        print(_greeting(kubeconfig, seconds=time.monotonic() - began), flush=True)
        ended.wait()
    if kubeconfig.exists() and kubeconfig.read_bytes() == ours:  # else it leads to another one
        kubeconfig.unlink()
    return 0


def _greeting(kubeconfig: Path, *, seconds: float) -> str:
    return f"""Kubernetes is ready ({seconds:.1f} s), with our custom resources and no nodes: pods stay Pending.

    export KUBECONFIG={str(kubeconfig)!r}
    {ROOT / ".venv/bin/kubectl"} explain clerksync.spec
    {ROOT / ".venv/bin/kubectl"} get clerkinstances,clerksyncs -A

Ctrl-C ends it, and all that is in it is gone."""


def _say(line: str) -> None:
    print(f"Kubernetes: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
