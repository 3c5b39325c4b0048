"""Where the binaries come from: a folder that KUBEBUILDER_ASSETS names, else a build of our own, made once.

Kubernetes publishes them as downloads only, and a test that downloads is a test that fails elsewhere. The Go modules
that they are made of are pinned by a go.sum, so the same bytes are built wherever Go is. The build is kept in the
user's cache under that go.sum's digest: all checkouts share it, and a change of version builds anew. The definitions of
others' kinds (`foreign.py`) come and are kept in the same way.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from devtools.kubernetes import foreign

HERE = Path(__file__).parent
ASSETS = "KUBEBUILDER_ASSETS"
"""Names a folder with binaries, as envtest has it. What is not in it is built."""

KUBERNETES = "v1.37.2"
"""Of go.mod. Unless it is stamped, the server calls itself v0.0.0-master and clients complain."""

_VERSION = "k8s.io/component-base/version"
_STAMP = (
    f"-X {_VERSION}.gitVersion={KUBERNETES} -X {_VERSION}.gitMajor=1 "
    f"-X {_VERSION}.gitMinor={KUBERNETES.split('.')[1]} -X {_VERSION}.gitTreeState=clean"
)
_BUILD = ("nice", "-n", "10", "go", "build", "-trimpath")


class BinariesMissing(Exception):
    """What is missing, and what would bring it."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a binary is built from: a package, seen from a module of ours."""

    module: Path
    package: str
    stamp: str = ""


SOURCES: Mapping[str, Source] = {
    "etcd": Source(HERE, "go.etcd.io/etcd/server/v3", _STAMP),
    "kube-apiserver": Source(HERE, "k8s.io/kubernetes/cmd/kube-apiserver", _STAMP),
    "kube-controller-manager": Source(HERE, "k8s.io/kubernetes/cmd/kube-controller-manager", _STAMP),
    "helm": Source(HERE / "helm", "helm.sh/helm/v4/cmd/helm"),
    "helm3": Source(HERE / "helm3", "helm.sh/helm/v3/cmd/helm"),
}

DEFINITIONS = "definitions"
"""The folder of others' definitions, beside the binaries in KUBEBUILDER_ASSETS or in the cache."""


def find_binary(name: str) -> Path:
    """The binary, from KUBEBUILDER_ASSETS or the cache. Raises `BinariesMissing` where it has to be built first."""
    for path in (*_asset(name), _built(name)):
        if os.access(path, os.X_OK):
            return path
    raise BinariesMissing(f"{name} is not built yet: .venv/bin/python -m devtools.kubernetes build")


def find_definitions() -> Path:
    """The folder with definitions of others' kinds. Raises `BinariesMissing` as `find_binary` does."""
    return find_binary(DEFINITIONS)  # a folder that may be entered counts as executable


def missing() -> list[str]:
    """What is in neither place."""
    names = (*SOURCES, DEFINITIONS)
    return [name for name in names if not any(os.access(path, os.X_OK) for path in (*_asset(name), _built(name)))]


def why_missing() -> str | None:
    """In one line, why tests on a real API server cannot run here; None where they can, if only after a build."""
    absent = missing()
    if absent and shutil.which("go") is None:
        return f"no {', '.join(absent)}: there is no Go to build them, and no folder with them in {ASSETS}"
    return None


def prepare(say: Callable[[str], None]) -> None:
    """Builds or fetches what is missing, one process at a time on this machine; `say` is told each step in a line.

    Raises `BinariesMissing` (no Go) or `subprocess.CalledProcessError` (Go has said why on standard error).
    """
    if not missing():
        return
    if reason := why_missing():
        raise BinariesMissing(reason)
    with _alone(say):
        absent = missing()  # another process may have built them while we waited
        if absent:
            say(f"making {', '.join(absent)} from Go modules, once: all takes 9 minutes on two cores ({_cache()})")
        for number, name in enumerate(absent, start=1):
            began = time.monotonic()
            _build(name)
            say(f"made {name} in {time.monotonic() - began:.0f} s ({number} of {len(absent)})")


def _build(name: str) -> None:
    """Built beside its place and moved there whole: what is killed in the middle leaves nothing that looks right."""
    target = _built(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="unfinished-") as unfinished:
        output = Path(unfinished) / name
        if name == DEFINITIONS:
            output.mkdir()
            foreign.fetch(output)
        else:
            _compile(SOURCES[name], output)
        output.replace(target)


def _compile(source: Source, output: Path) -> None:
    subprocess.run(
        [*_BUILD, "-ldflags", f"-s -w {source.stamp}".strip(), "-o", str(output), source.package],
        cwd=source.module,
        env={**os.environ, "GOFLAGS": "-buildvcs=false"},
        stdin=subprocess.DEVNULL,
        check=True,
    )


def _asset(name: str) -> tuple[Path, ...]:
    folder = os.environ.get(ASSETS)
    return (Path(folder) / name,) if folder else ()


def _built(name: str) -> Path:
    module = foreign.MODULE if name == DEFINITIONS else SOURCES[name].module
    digest = hashlib.sha256((module / "go.sum").read_bytes()).hexdigest()[:16]
    return _cache() / f"{module.name}-{digest}" / name


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "nexus-auth"


@contextmanager
def _alone(say: Callable[[str], None]) -> Iterator[None]:
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / "kubernetes.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process builds Kubernetes' binaries: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
