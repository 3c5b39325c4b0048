"""The API server goes away, falls silent, forgets, refuses: the operator goes on as soon as it can."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kubernetes.operator.conftest import NAME, Stage
from tests.kubernetes.operator.kube import INSTANCES, SYNCS
from tests.kubernetes.operator.process import Operator, token_of, write_kubeconfig
from tests.kubernetes.operator.proxy import Proxy, is_status, is_watch
from tests.process import until


@asynccontextmanager
async def through_a_proxy(stage: Stage, admins: Path, **environment: str) -> AsyncIterator[tuple[Operator, Proxy]]:
    """An operator that reaches the API server through a proxy only, and a sync that is in step."""
    token = yaml.safe_load(stage.kubeconfig.read_text())["users"][0]["user"]["token"]
    kubeconfig = stage.folder / "proxied"
    async with Proxy(admins) as proxy:
        write_kubeconfig(kubeconfig, admins=admins, token=token, server=proxy.url)
        async with stage.operator(kubeconfig=kubeconfig, **environment) as operator:
            await stage.all()
            await stage.ready()
            yield operator, proxy


@pytest.fixture
def admins(api_server: Any) -> Path:
    """The administrator's kubeconfig."""
    return Path(api_server.kubeconfig)


async def test_connections_that_are_cut(stage: Stage, admins: Path) -> None:
    async with through_a_proxy(stage, admins) as (_, proxy):
        for token in ("one", "two"):
            proxy.cut()
            await stage.requested(token)


async def test_an_api_server_that_is_away_longer_than_the_lease(stage: Stage, admins: Path) -> None:
    async with through_a_proxy(stage, admins) as (operator, proxy):
        proxy.away = True
        proxy.cut()
        await operator.said("lease lost")
        proxy.away = False
        await stage.requested("back")
        assert operator.log.read_text().count('"leading"') == 2


async def test_watches_that_stall_without_closing_are_made_up_for_by_listing(stage: Stage, admins: Path) -> None:
    async with through_a_proxy(stage, admins, NEXUS_AUTH_RELIST_SECONDS="2") as (operator, proxy):
        proxy.stalls = True
        await stage.requested("unheard")
        await operator.said("the watch had missed a change")
        proxy.stalls = False
        await stage.requested("heard again")


async def test_watches_that_are_told_410_begin_anew(stage: Stage, admins: Path) -> None:
    async with through_a_proxy(stage, admins) as (_, proxy):
        expired = proxy.refuse(410, times=3, matches=is_watch)
        proxy.cut()
        await until(lambda: expired.used >= 3, what=lambda: "three answers of 410")
        await stage.requested("after 410")


async def test_a_token_that_is_refused_for_a_while(stage: Stage, admins: Path) -> None:
    async with through_a_proxy(stage, admins) as (operator, proxy):
        refused = proxy.refuse(401)
        proxy.cut()
        await until(lambda: refused.used >= 5, what=lambda: "five answers of 401")
        proxy.rules.clear()
        await stage.requested("after 401")
        assert operator.process.returncode is None


async def test_a_service_accounts_token_that_was_replaced_in_its_file(stage: Stage, api_server: Any) -> None:
    """As a kubelet does it: another token in the same file, and sooner or later the former one is refused."""
    former = yaml.safe_load(stage.kubeconfig.read_text())["users"][0]["user"]["token"]
    account = stage.folder / "account"
    account.mkdir()
    (account / "ca.crt").write_bytes(api_server.ca.read_bytes())
    (account / "token").write_text(former)
    async with Proxy(Path(api_server.kubeconfig), certificate=api_server.ca) as proxy:
        pod = {
            "NEXUS_AUTH_SERVICE_ACCOUNT_DIR": str(account),
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(proxy.port),
        }
        async with stage.operator(kubeconfig=Path("/nowhere"), **pod) as operator:
            await stage.all()
            await stage.ready()
            token = await token_of(stage.kube, _account_of(former))
            assert token != former
            (account / "token").write_text(token)
            refused = proxy.refuse(401, matches=lambda request: former in request.headers.get("Authorization", ""))
            proxy.cut()
            await stage.requested("by the new one")
            assert refused.used > 0
            await stage.kube.secret("clerk", secret_key="sk_test_another")  # watched with the new one, too
            await stage.kube.condition(NAME, "Ready", "False", plural=INSTANCES)
            assert operator.log.read_text().count('"leading"') == 1


def _account_of(token: str) -> str:
    """Which service account a token is of: its subject's last word."""
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return str(claims["sub"]).rpartition(":")[2]


async def test_writes_of_the_status_that_conflict(stage: Stage, admins: Path) -> None:
    async with through_a_proxy(stage, admins) as (_, proxy):
        conflict = proxy.refuse(409, times=3, matches=is_status)
        body = await stage.requested("after 409")
        assert conflict.used == 3
        assert body["status"]["lastSync"]["reason"] == "Requested"
        conflict = proxy.refuse(409, times=8, matches=is_status)  # more than one attempt to save makes
        await stage.requested("after many")
        assert conflict.used == 8


async def test_a_server_that_fails_to_write_a_status(stage: Stage, admins: Path) -> None:
    async with through_a_proxy(stage, admins) as (_, proxy):
        failing = proxy.refuse(500, times=4, matches=is_status)
        await stage.requested("after 500")
        assert failing.used == 4


async def test_a_spec_that_changes_between_reading_and_writing_is_acted_upon(stage: Stage, admins: Path) -> None:
    async with through_a_proxy(stage, admins, NEXUS_AUTH_RELIST_SECONDS="600") as (_, proxy):
        proxy.stalls = True
        conflict = proxy.refuse(409, times=1, matches=is_status)
        await stage.kube.patch(SYNCS, NAME, {"spec": {"interval": "3h"}})
        await stage.world.admin.execute("update clerk_private.instance set sweep_requested_at = now()")
        await stage.kube.until(SYNCS, NAME, lambda body: body["status"]["observedGeneration"] == 2, what="generation 2")
        assert conflict.used == 1


async def test_a_crd_that_is_not_there_yet(stage: Stage, admins: Path) -> None:
    def is_ours(request: Any) -> bool:
        return bool(request.path.startswith("/apis/nexus-auth.dev"))

    token = yaml.safe_load(stage.kubeconfig.read_text())["users"][0]["user"]["token"]
    kubeconfig = stage.folder / "proxied"
    async with Proxy(admins) as proxy:
        write_kubeconfig(kubeconfig, admins=admins, token=token, server=proxy.url)
        missing = proxy.refuse(404, matches=is_ours)
        async with stage.operator(kubeconfig=kubeconfig) as operator:
            await operator.said("the custom resources are not installed")
            status, text = await operator.ready()
            assert (status, "apply crds/" in text) == (503, True)
            proxy.rules.remove(missing)
            await stage.all()
            await stage.ready()
            await until(lambda: _is_ready(operator), what=lambda: "readiness")
            await stage.requested("watched")


async def test_a_crd_that_is_replaced_under_it(stage: Stage, admins: Path) -> None:
    def is_ours(request: Any) -> bool:
        return bool(request.path.startswith("/apis/nexus-auth.dev"))

    async with through_a_proxy(stage, admins, NEXUS_AUTH_RELIST_SECONDS="2") as (operator, proxy):
        gone = proxy.refuse(404, matches=is_ours)
        proxy.cut()
        await operator.said("the custom resources are not installed")
        proxy.rules.remove(gone)
        await stage.requested("after it came back")
        assert (await stage.kube.get(SYNCS, NAME))["status"]["lastSync"]["state"] == "completed"


async def _is_ready(operator: Operator) -> bool:
    return (await operator.ready())[0] == 200
