"""What `helm test` runs, as the chart renders it, beside a webhook process. In a pod it runs in tests/e2e."""

import asyncio
import sys
from pathlib import Path

from devtools.postgres import Database
from tests.kubernetes.chart.rendering import rendered
from tests.service import WebhookService


async def check(**environment: str) -> tuple[int, str]:
    """Runs the test pod's program with the pod's variables, but for the addresses."""
    container = rendered().pods()["Pod/test"]["containers"][0]
    assert {variable["name"] for variable in container["env"]} == set(environment)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *container["command"][1:], *container["args"], env=environment, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_it_passes_beside_a_webhook_and_fails_where_something_is_amiss(
    database: Database, tmp_path: Path
) -> None:
    async with WebhookService(database, folder=tmp_path) as service:
        public = service.url.removesuffix("/webhooks/clerk")
        code, said = await check(PUBLIC_URL=public, WEBHOOK_URL=service.url, HEALTH_URL=service.health_url)
        assert (code, said.count("ok    ")) == (0, 4), said
        code, said = await check(PUBLIC_URL=service.health_url, WEBHOOK_URL=service.url, HEALTH_URL=service.health_url)
        assert code == 1
        assert "FAILED  metrics are not on the public port" in said
        code, said = await check(PUBLIC_URL=public, WEBHOOK_URL=f"{public}/elsewhere", HEALTH_URL=service.health_url)
        assert "FAILED  an unsigned event is refused" in said
        assert await service.stop() == 0
    code, said = await check(PUBLIC_URL=public, WEBHOOK_URL=service.url, HEALTH_URL=service.health_url)
    assert (code, said.count("FAILED")) == (1, 4)
    assert "Connection refused" in said
