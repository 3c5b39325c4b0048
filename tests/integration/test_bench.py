"""The bench measures, and it notices what it is there to notice. Tiny sizes: no figure of these runs means anything."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from bench import checks, cpu, generator, startup, visibility, workload
from devtools.postgres import Database, ForeignServer, Server
from tests.events import INSTANCE, SECRET
from tests.service import ROOT, WebhookService


def prepared(folder: Path, *, timed: int = 300) -> workload.Workload:
    return workload.prepare(folder / "requests", warm=100, timed=timed, secret=SECRET, instance_id=INSTANCE)


def port_of(service: WebhookService) -> int:
    return int(service.url.split(":")[2].split("/")[0])


def test_one_command_measures_both_ways_and_fails_when_the_ratio_misses_its_goal() -> None:
    sizes = ["--rounds", "1", "--seconds", "0.3", "--users", "100", "--connections", "8"]
    command = [sys.executable, "-m", "bench", "--only", "throughput", "--output", "json", "--goal", "1000", *sizes]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    measured = json.loads(done.stdout)["throughput"]
    assert f"is {measured['ratio']:.2f} times as fast as batches of one; the goal is 1000" in done.stderr
    by_variant = {one["variant"]: one for one in measured["rounds"]}
    assert list(by_variant)[:2] == ["group commit", "batches of one"]
    assert by_variant["batches of one"]["rows_per_transaction"] == 1
    for one in by_variant.values():
        assert one["events"] > 0
        assert 0 < one["p50"] <= one["p95"] <= one["p99"]


async def test_a_row_that_differs_from_what_was_acknowledged_is_named(database: Database, tmp_path: Path) -> None:
    load = prepared(tmp_path)
    async with WebhookService(database, folder=tmp_path) as service:
        outcome = await generator.run(
            load.file, port=port_of(service), connections=8, seconds=0, first=0, count=len(load.plan)
        )
    assert outcome.others == {}
    assert sorted(outcome.acknowledged) == list(range(len(load.plan)))
    answered = [load.plan[number] for number in outcome.acknowledged]
    await checks.compare(database.admin_url, answered)

    chosen = next(iter(workload.expected(answered)))
    connection = await asyncpg.connect(database.admin_url)
    # Each is looked at before the one above it.
    for broken, complaint in (
        (f"update clerk.users set first_name = 'Eve' where id = '{chosen}'", f"'Eve'.* for {chosen}"),
        (f"delete from clerk.user_emails where user_id = '{chosen}'", f"for {chosen}"),
        (f"delete from clerk.users where id = '{chosen}'", f"clerk.users: 1 acknowledged are missing.*{chosen}"),
        ("delete from clerk_private.inbox where svix_id = 'msg_bench0000000000000007'", "^inbox: 1 acknowledged"),
        ("insert into clerk_private.inbox_seen (svix_id) values ('msg_nobody')", "1 were never acknowledged: msg_nob"),
    ):
        await connection.execute(broken)
        with pytest.raises(checks.Wrong, match=complaint):
            await checks.compare(database.admin_url, answered)
    await connection.close()


def test_the_load_holds_what_it_says(tmp_path: Path) -> None:
    load = prepared(tmp_path, timed=4000)
    timed = load.plan[load.warm :]
    known = {planned.user_id for planned in load.plan[: load.warm]}
    sent = {planned.svix_id for planned in load.plan[: load.warm]}
    latest = {planned.user_id: planned for planned in load.plan[: load.warm]}
    kinds = dict.fromkeys(("new", "update", "stale", "duplicate"), 0)
    for planned in timed:
        if planned.svix_id in sent:
            kinds["duplicate"] += 1
        elif planned.user_id not in known:
            kinds["new"] += 1
        else:
            kinds["update" if planned.version > latest[planned.user_id].version else "stale"] += 1
        sent.add(planned.svix_id)
        known.add(planned.user_id)
        latest[planned.user_id] = max(planned, latest.get(planned.user_id, planned), key=lambda one: one.version)
    shares = {kind: count / len(timed) for kind, count in kinds.items()}
    assert shares == pytest.approx({"new": 0.25, "update": 0.70, "stale": 0.03, "duplicate": 0.02}, abs=0.03)
    assert min(kinds.values()) > 0


async def test_an_answer_that_is_not_204_is_counted_as_such(tmp_path: Path) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            await reader.readuntil(b'"event_attributes":{"http_request":{')
            await reader.readuntil(b"}}}")
            writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nno")
            await writer.drain()
            writer.write(b" no")

    load = prepared(tmp_path)
    server = await asyncio.start_server(refuse, "127.0.0.1", 0, limit=2**20)
    outcome = await generator.run(
        load.file, port=server.sockets[0].getsockname()[1], connections=2, seconds=0, first=0, count=10
    )
    server.close()
    assert (outcome.acknowledged, outcome.others) == ([], {"503": 10})


async def test_changes_become_visible_and_are_timed(
    postgres: Server | ForeignServer, template: Database, tmp_path: Path
) -> None:
    seen = await visibility.measure(postgres, template, folder=tmp_path, rate=100, seconds=0.5)
    assert seen.events == 50
    assert 0 < seen.p50 <= seen.p95 <= seen.p99 <= seen.slowest


async def test_a_start_of_make_run_is_timed(tmp_path: Path) -> None:
    measured = await startup.measure(folder=tmp_path, rounds=1)
    assert len(measured.first) == len(measured.again) == 1
    assert min(measured.first + measured.again) > 0


async def test_a_make_run_that_does_not_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLERK_SECRET_KEY", "sk_test_alone")
    with pytest.raises(startup.NotReady, match="CLERK_WEBHOOK_SIGNING_SECRET"):
        await startup.measure(folder=tmp_path, rounds=1)


BURN = "import time\nwhile time.process_time() < 0.3: pass"


def test_cpu_time_of_a_child_that_ended_counts_for_its_family() -> None:
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}]); print(flush=True); input()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        ended = cpu.of_family(parent.pid) - cpu.of_process(parent.pid)
        parent.communicate(b"\n")
    assert ended >= 0.25
