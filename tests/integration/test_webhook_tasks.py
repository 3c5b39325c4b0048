"""No task of the webhook service ends unseen: a test ends each of them, one after the other."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from devtools.postgres import Database
from services.webhook.__main__ import Service
from services.webhook.settings import WebhookSettings
from tests.events import INSTANCE, SECRET, Signed, event, user
from tests.service import ROOT, WITHHOLD_KEY
from tests.wire import until

NAMES = {
    *("connect", "watch the signing secrets", "follow the database address"),
    *("maintain the inbox", "finish deletions and count", "verify held deletions", "lane 0", "lane 1", "lane 2"),
}
OURS = (str(ROOT / "services"), str(ROOT / "nexus_auth"))


def our_tasks() -> dict[str, asyncio.Task[object]]:
    """Tasks that run code of the product, by name; but for the service itself, which the test has begun."""
    found = {}
    for task in asyncio.all_tasks():
        code = getattr(task.get_coro(), "cr_code", None)
        if code is not None and code.co_filename.startswith(OURS) and task.get_name() != "service":
            found[task.get_name()] = task
    return found


@asynccontextmanager
async def in_this_process(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[tuple[Service, str]]:
    """The service as `python -m services.webhook` runs it, and where it listens."""
    file = tmp_path / "url"
    file.write_text(database.url("webhook"))
    for name, value in {
        "NEXUS_AUTH_DATABASE_URL_FILE": str(file),
        "CLERK_WEBHOOK_SIGNING_SECRET": SECRET,
        "CLERK_INSTANCE_ID": INSTANCE,
        "NEXUS_AUTH_WITHHOLD_KEY": WITHHOLD_KEY,
        "NEXUS_AUTH_PORT": "0",
        "NEXUS_AUTH_HEALTH_PORT": "0",
    }.items():
        monkeypatch.setenv(name, value)
    caplog.set_level(logging.INFO)
    service = Service(WebhookSettings.model_validate({}))
    running = asyncio.create_task(service.run(), name="service")

    def said(message: str) -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.message == message]

    await until(lambda: asyncio.sleep(0, bool(said("ready"))))
    try:
        yield service, f"http://127.0.0.1:{said('listening')[0].__dict__['port']}/webhooks/clerk"
    finally:
        service._stop.set()
        assert await running == 0


async def test_each_task_that_is_ended_is_noticed_and_begun_again_and_events_go_on(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        in_this_process(database, tmp_path, monkeypatch, caplog) as (service, url),
        aiohttp.ClientSession() as session,
    ):
        assert set(our_tasks()) == NAMES
        for number, name in enumerate(sorted(NAMES)):
            ended = our_tasks()[name]
            ended.cancel()

            async def again(name: str = name, ended: asyncio.Task[object] = ended) -> bool:
                return our_tasks().get(name) not in (None, ended)

            await until(again)
            value = service._registry.get_sample_value
            assert value("nexus_auth_task_failures_total", {"task": name}) == 1
            assert value("nexus_auth_task_running", {"task": name}) == 1
            lines = [record for record in caplog.records if record.message == "a task ended and is begun again"]
            assert (lines[-1].__dict__["task"], len(lines)) == (name, number + 1)
            for one in range(4):  # of both lanes
                signed = Signed(event("user.created", user(f"user_{number}_{one}")))
                async with session.post(url, data=signed.body, headers=signed.headers()) as answer:
                    assert answer.status == 204, name
        assert set(our_tasks()) == NAMES
    assert not our_tasks()
