"""`make cluster`: a cluster for a person, on which the docs' commands work as typed, until Ctrl-C.

`build` only builds the binaries; `path NAME` builds them and tells where one is.

python -m devtools.kubernetes [--folder FOLDER | build | path NAME]
"""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from devtools import postgres
from devtools.kubernetes import BinariesMissing, ClusterFailed, find_binary, prepare, why_missing
from devtools.kubernetes.trial import Trial, trial

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".run" / "cluster"
LOOK_SECONDS = 1.0


def main(arguments: list[str]) -> int:
    """Answers the exit code."""
    try:
        match arguments:
            case [] | ["--folder", _]:
                prepare(_say)
                return _serve(Path(arguments[1]).absolute() if arguments else FOLDER)
            case ["build"]:
                return _build()
            case ["path", name]:
                prepare(lambda line: print(line, file=sys.stderr))
                print(find_binary(name))
                return 0
    except (BinariesMissing, ClusterFailed, postgres.BinariesMissing, postgres.ServerFailed) as error:
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


def _serve(folder: Path) -> int:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: ended.set())
    began = time.monotonic()
    with trial(folder) as started:
        print(_greeting(started, seconds=time.monotonic() - began), flush=True)
        while not ended.wait(LOOK_SECONDS):
            started.cluster.check()
    return 0


def _greeting(started: Trial, *, seconds: float) -> str:
    return f"""Kubernetes is ready ({seconds:.1f} s), with a node whose pods are processes of this checkout, not
containers: nothing isolates them. make e2e proves the chart on a real node.

  Clerk     {started.clerk_url}/   the emulator's page; it stands for https://api.clerk.com in this cluster
  webhook   {started.webhook_url}   leads to a ready webhook pod, as an Ingress would
  logs      {started.cluster.folder}/*.log

In another shell, in {ROOT}, all of docs/kubernetes/install.md works as typed, after

    . {shlex.quote(str(started.env))}

in the place of its first block. In short:

    kubectl create namespace auth && kubectl config set-context --current --namespace auth
    helm install nexus-auth deploy/helm/nexus-auth …         # its Secrets, its values and its logins: sections 1 and 2
    kubectl apply -f deploy/examples/manifests/clerkinstance.yaml -f deploy/examples/manifests/clerksync.yaml
    kubectl wait --for=condition=Ready clerkinstance/production clerksync/app --timeout=5m
    kubectl get csync
    kubectl explain csync.spec
    kubectl nexus status

Ctrl-C ends it, and all that is in it is gone, the database too."""


def _say(line: str) -> None:
    print(f"Kubernetes: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
