"""`make cluster`: an API server for a person, until Ctrl-C.

`build` only builds the binaries; `path NAME` builds them and tells where one is.

python -m devtools.kubernetes [build | path NAME]
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
            case []:
                prepare(_say)
                return _serve()
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


def _serve() -> int:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    began = time.monotonic()
    with temporary_cluster() as cluster:
        cluster.admin.install_definitions(ROOT / "crds")
        KUBECONFIG.parent.mkdir(mode=0o700, exist_ok=True)
        cluster.write_kubeconfig(KUBECONFIG, token=cluster.token)
        print(_greeting(seconds=time.monotonic() - began), flush=True)
        ended.wait()
    KUBECONFIG.unlink(missing_ok=True)
    return 0


def _greeting(*, seconds: float) -> str:
    return f"""Kubernetes is ready ({seconds:.1f} s), with our custom resources and no nodes: pods stay Pending.

    export KUBECONFIG={str(KUBECONFIG)!r}
    {ROOT / ".venv/bin/kubectl"} explain clerksync.spec
    {ROOT / ".venv/bin/kubectl"} get clerkinstances,clerksyncs -A

Ctrl-C ends it, and all that is in it is gone."""


def _say(line: str) -> None:
    print(f"Kubernetes: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
