"""An emulator that is judged by Clerk's specification in every test, and an endpoint that does as it is told."""

import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from devtools import clerk_emulator
from devtools.clerk_emulator import Behaviour, Emulator, Settings
from devtools.clerk_emulator.testing import Receiver, Specification, SpecificationMissing

REPOSITORY = Path(__file__).resolve().parents[3]
SDK = Path(clerk_emulator.__file__).parent / "sdk"
CI = os.environ.get("CI") == "true"


def left_out(reason: str) -> None:
    """Fail where nothing may be left out; elsewhere say in one line what is."""
    if CI:
        pytest.fail(reason)
    pytest.skip(f"left out: {reason}")


@dataclass
class Judge:
    """Collects what the specification has against answers and events."""

    specification: Specification | None
    problems: list[str] = field(default_factory=list)

    def see_answer(self, method: str, route: str, status: int, body: bytes) -> None:
        """Judge an answer of the API."""
        if self.specification:
            self.problems += self.specification.problems_of_answer(
                method=method, route=route.removeprefix("/v1"), status=status, body=body
            )

    def see_events(self, clerk: Emulator) -> None:
        """Judge every event of a known type that was sent."""
        for message in clerk.dispatcher.log.newest_first():
            if self.specification and message.type in self.specification.event_types:
                self.problems += self.specification.problems_of_event(message.body)


@pytest.fixture(scope="session")
def specification_if_any() -> Specification | None:
    try:
        return Specification.found(repository=REPOSITORY)
    except SpecificationMissing as missing:
        if CI:
            pytest.fail(str(missing))
        return None


@pytest.fixture
def specification(specification_if_any: Specification | None) -> Specification:
    if specification_if_any is None:
        left_out("comparison with Clerk's OpenAPI files (set CLERK_OPENAPI_DIR)")
    assert specification_if_any is not None
    return specification_if_any


@pytest.fixture
def judge(specification_if_any: Specification | None) -> Judge:
    return Judge(specification_if_any)


@pytest.fixture
def settings() -> Settings:
    """Small, and quick to try again."""
    return Settings(users=60, organizations=5, memberships=90, behaviour=Behaviour(retry_scale=0.002))


@pytest.fixture
async def clerk(settings: Settings, judge: Judge) -> AsyncIterator[Emulator]:
    async with Emulator(settings, observe=judge.see_answer) as emulator:
        yield emulator
        judge.see_events(emulator)
    assert judge.problems == []


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as endpoint:
        yield endpoint


@pytest.fixture
def node() -> str:
    program = shutil.which("node")
    if program is None:
        left_out("Clerk's JavaScript SDK (no node)")
    if not (SDK / "node_modules").is_dir():
        left_out(f"Clerk's JavaScript SDK (run npm ci in {SDK.relative_to(REPOSITORY)})")
    assert program is not None
    return program
