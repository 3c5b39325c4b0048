"""kubectl and helm as a person types them, and the refusal to touch a cluster that nobody allowed by name."""

import asyncio
import json
import os
import shutil
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "nexus-auth"
ALLOWED = "kind-nexus-auth,k3d-nexus-auth"
"""Contexts that may be tested on, unless E2E_CONTEXTS names others: no cluster of yours is called so by accident."""


class NotAllowed(Exception):
    """The context is not one of those that tests may use."""


def allowed_context(current: str, *, allowed: str) -> str:
    """The context, if its name is one of `allowed` (separated by commas). Raises `NotAllowed`."""
    names = {name.strip() for name in allowed.split(",") if name.strip()}
    if current not in names:
        raise NotAllowed(
            f"the context {current!r} is none of {', '.join(sorted(names))}: tests create and delete things there."
            " Name it in E2E_CONTEXTS if they may."
        )
    return current


class Failed(Exception):
    """A program ended with something else than 0; the text is what it said."""


@dataclass(frozen=True)
class Ran:
    """What a program ended with, and said on both channels."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Cluster:
    """One context of the kubeconfig."""

    context: str

    @classmethod
    async def open(cls) -> "Cluster":
        """The current context. Raises `NotAllowed`, and `Failed` where there is none."""
        current = (await run(kubectl(), "config", "current-context")).out.strip()
        return cls(allowed_context(current, allowed=os.environ.get("E2E_CONTEXTS") or ALLOWED))

    async def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True, seconds: float = 120) -> Ran:
        """kubectl in this context."""
        return await run(kubectl(), "--context", self.context, *arguments, stdin=stdin, check=check, seconds=seconds)

    async def helm(self, *arguments: str, check: bool = True, seconds: float = 240) -> Ran:
        """helm in this context."""
        return await run(helm(), "--kube-context", self.context, *arguments, check=check, seconds=seconds)

    async def apply(self, *objects: dict[str, Any], namespace: str | None = None) -> None:
        """Server-side apply of whole objects."""
        where = ("--namespace", namespace) if namespace else ()
        text = "\n---\n".join(json.dumps(item) for item in objects)
        await self.kubectl("apply", "--server-side", "--force-conflicts", *where, "-f", "-", stdin=text)

    async def get(self, kind: str, *names: str, namespace: str | None = None, selector: str = "") -> Any:
        """An object, or with a selector a list's items."""
        where = ("--namespace", namespace) if namespace else ()
        more = ("--selector", selector) if selector else ()
        read = json.loads((await self.kubectl("get", kind, *names, *where, *more, "-o", "json")).out)
        return read["items"] if read["kind"].endswith("List") else read


async def run(program: str, *arguments: str, stdin: str | None = None, check: bool = True, seconds: float = 120) -> Ran:
    """Runs a program to its end. Raises `Failed` where `check` and it ends badly, TimeoutError after `seconds`."""
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate(stdin.encode() if stdin is not None else None)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    done = Ran(process.returncode or 0, out.decode(), err.decode())
    if check and done.code != 0:
        raise Failed(f"{Path(program).name} {' '.join(arguments[:6])} … ended with {done.code}:\n{done.out}{done.err}")
    return done


def kubectl() -> str:
    """The binary beside the tests' Python, else the one on PATH."""
    beside = Path(sys.executable).with_name("kubectl")
    return str(beside) if beside.exists() else _on_path("kubectl")


def helm() -> str:
    """The binary that HELM names, else the one on PATH."""
    return os.environ.get("HELM") or _on_path("helm")


def _on_path(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Failed(f"{name} is not on PATH")
    return found


async def until(true: Callable[[], Awaitable[bool]], *, seconds: float, what: str) -> float:
    """Waits until `true` says so, asking four times a second; answers how long that took."""
    began = time.monotonic()
    while not await true():
        assert time.monotonic() < began + seconds, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.25)
    return time.monotonic() - began
