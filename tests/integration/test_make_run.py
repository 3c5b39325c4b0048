"""`make run` as the processes that it is: started, used, killed, and nothing of it left."""

import asyncio
import os
import re
import signal
import stat
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from devtools.clerk_emulator import Emulator, Settings
from devtools.postgres import Database, Server, execute, fetch, home_for
from services.reconciler.manifests import read_manifests
from tests.commandline import CommandLine
from tests.events import SECRET
from tests.run import (
    VARIABLES,
    Run,
    alive,
    command,
    create_user,
    create_user_on_the_page,
    delete_user,
    emit,
    finished,
    listens,
    newest_users,
    nothing_left,
    psql,
    until,
)

PARTS = ("services.webhook", "services.reconciler.standalone", "devtools.clerk_emulator", "bin/postgres")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in the place of the checkout; its database stays from test to test, as it does from run to run."""
    folder = tmp_path_factory.mktemp("a checkout with spaces")
    yield folder
    Server(home_for("run", checkout=folder)).destroy()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Run]:
    """One that goes on while several tests use it; it ends with none of them."""
    folder = tmp_path_factory.mktemp("shared")
    async with Run(folder) as run:
        await run.ready()
        yield run
    Server(home_for("run", checkout=folder)).destroy()


async def test_a_user_of_the_api_and_one_of_the_page_each_see_their_own_row(run: Run) -> None:
    variables = await run.ready()
    ada = await create_user(variables, "ada@example.com")
    grace = await create_user_on_the_page(variables, "grace@example.com")
    for user in (ada, grace):
        line = await run.says(rf"^\d\d:\d\d:\d\d\.\d\d\d  user\.created +created +{user} +\d+ ms$")
        assert "\x1b" not in line[0]
    assert await psql(run.home, ada) == [f"{ada}|ada@example.com"]
    assert await psql(run.home, grace) == [f"{grace}|grace@example.com"]
    assert await psql(run.home, "user_nobody") == []
    assert await psql(run.home, "user_nobody", "select current_user") == ["authenticated"]


async def test_a_backfilled_user_sees_her_own_row_and_a_lost_event_is_repaired(run: Run) -> None:
    variables = await run.ready()
    await run.says(
        r"^reconciler: backfill: 5,\d\d\d users, 200 organizations, 12,000 memberships in [\d.]+ s", seconds=200
    )
    seeded = (await newest_users(variables, offset=4_000))[0]
    assert [line.partition("|")[0] for line in await psql(run.home, seeded)] == [seeded]
    async with aiohttp.ClientSession(variables["CLERK_API_URL"]) as session:
        fault = {"kind": "lose", "next": 1, "types": "user.created"}
        assert (await session.post("/_emulator/faults", json=fault)).status < 300
    lost = await create_user(variables, "lost@example.com")
    await run.says(rf"^ +missing +user +{lost} +repaired +never received$", seconds=120)
    assert await psql(run.home, lost) == [f"{lost}|lost@example.com"]
    assert not re.search(rf"user\.created .*{lost}", run.text)


async def test_a_row_edited_by_hand_is_told_by_the_command_line_beside_it(run: Run) -> None:
    variables = await run.ready()
    await run.says(r"^reconciler: backfill: ", seconds=200)
    seeded = (await newest_users(variables, offset=4_000))[1]
    execute(variables["ADMIN_DATABASE_URL"], f"update clerk.users set first_name = 'By hand' where id = '{seeded}'")
    beside = CommandLine(run.home)
    told = await asyncio.to_thread(beside, "sync", "--full", "--apply", "--kind", "users")
    assert told.code == 0, told.err
    story = (await asyncio.to_thread(beside, "explain", seeded, "--output", "json")).json()["story"]
    assert ("finding", "edited") in {(step["what"], step.get("problem")) for step in story}
    (row,) = fetch(variables["ADMIN_DATABASE_URL"], "select first_name from clerk.users where id = $1", seeded)
    assert row["first_name"] != "By hand"


async def test_the_manifests_and_their_secrets_are_for_the_owner_while_it_lasts(home: Path) -> None:
    async with Run(home) as run:
        folder = Path((await run.ready())["RECONCILER_MANIFESTS"]).parent
        assert {stat.S_IMODE(place.stat().st_mode) for place in (folder, *folder.rglob("*")) if place.is_dir()} == {
            0o700
        }
        (instance,) = read_manifests((folder / "manifests.yaml").read_text()).instances.values()
        assert (folder / "secrets" / instance.secret_key.name / instance.secret_key.key).is_file()
        run.send(signal.SIGTERM)
        assert await run.exit_code() == 0
        assert not folder.exists()


async def test_a_reconciler_that_dies_is_named_and_started_again(run: Run) -> None:
    await run.ready()
    os.kill(run.find(r"services\.reconciler"), signal.SIGKILL)
    await run.says(r"^reconciler: was ended by SIGKILL; it is started again in 0\.5 s")
    await run.says(r"^reconciler: looks again")


async def test_the_shell_reads_every_address_and_key_and_nobody_else_may(run: Run) -> None:
    variables = await run.ready()
    assert stat.S_IMODE(run.env_file.stat().st_mode) == 0o600
    assert set(variables) == VARIABLES
    script = '. "$1"; for name in $2; do eval "printf \'%s\\n\' \\"\\$$name\\""; done'
    names = sorted(VARIABLES)
    done = await finished(["sh", "-euc", script, "sh", str(run.env_file), " ".join(names)])
    assert done.stdout.splitlines() == [variables[name] for name in names]
    for name in names:
        if name.endswith("_DATABASE_URL"):
            (row,) = fetch(variables[name], "select session_user::text as login")
            assert row["login"] in (f"clerk_{name.partition('_')[0].lower()}_login", "app_login", "postgres")
    keys = [file for file in run.env_file.parent.rglob("*") if file.is_file() and "postgres" not in file.parts]
    assert {stat.S_IMODE(file.stat().st_mode) for file in keys} == {0o600}


async def test_no_secret_stands_in_a_process_list_or_in_the_output(run: Run) -> None:
    variables = await run.ready()
    password = re.search(r":(\w+)@", variables["ADMIN_DATABASE_URL"])
    assert password
    shown = run.text + "\n".join(run.processes().values())
    for name in ("WEBHOOK_SECRETS", "CLERK_SECRET_KEY", "NEXUS_AUTH_WITHHOLD_KEY"):
        assert variables[name] not in shown
    assert password[1] not in shown


async def test_a_terminal_that_stands_still_holds_up_no_event(run: Run) -> None:
    variables = await run.ready()
    run.look_away()
    await emit(variables, 2_000)  # 200 KB of lines: more than the pipes on the way hold
    run.look_again()
    assert await until(lambda: run.text.count("session.created") == 2_000, seconds=20), run.text[-1_000:]


async def test_a_second_run_in_the_same_place_says_so_in_one_sentence(run: Run) -> None:
    second = await finished(command(run.home))
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr == f"make run: one already runs in {run.home} (process {run.pid}); end it first\n"
    await create_user(await run.ready(), "undisturbed@example.com")
    await run.says(r"user\.created +created")


async def test_a_polite_kill_ends_everything(home: Path) -> None:
    async with Run(home) as run:
        variables, processes = await run.ready(), run.processes()
        assert [name for name in PARTS if not any(name in line for line in processes.values())] == []
        run.send(signal.SIGTERM)
        assert await run.exit_code() == 0
        await nothing_left(processes, variables, seconds=0)
        assert not run.env_file.exists()


async def test_an_interrupt_ends_a_run_in_the_background_of_a_script_too(home: Path) -> None:
    """A shell without job control starts such a process with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run = Run(home).start()
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    async with run:
        variables, processes = await run.ready(), run.processes()
        run.send(signal.SIGINT)
        assert await run.exit_code() == 0
        await nothing_left(processes, variables, seconds=0)


async def test_ctrl_c_in_a_terminal_ends_everything(home: Path) -> None:
    async with Run(home, terminal=True) as run:
        variables, processes = await run.ready(), run.processes()
        assert "\x1b[" in run.text, "a terminal gets colours"
        os.write(run.reading, b"\x03")
        assert await run.exit_code() == 0
        await nothing_left(processes, variables, seconds=0)


async def test_a_terminal_has_a_live_view_below_the_lines_unless_it_is_not_wanted(home: Path) -> None:
    async with Run(home, terminal=True) as run:
        await run.says(r"Clerk {5}\x1b\[0m +5,0\d\d +200 +12,000")
        user = await create_user(await run.ready(), "live@example.com")
        await run.says(rf"event {{5}}\x1b\[0muser\.created \w+ {user}")
    async with Run(home, terminal=True, environment={"NEXUS_AUTH_PLAIN": "1"}) as run:
        user = await create_user(await run.ready(), "plain@example.com")
        await run.says(user)
        assert "memberships\x1b" not in run.text


async def test_a_terminal_that_closes_ends_everything(home: Path) -> None:
    async with Run(home, terminal=True) as run:
        variables, processes = await run.ready(), run.processes()
        run.hang_up()
        assert await run.exit_code() == 0
        await nothing_left(processes, variables, seconds=0)


async def test_a_reader_that_goes_away_ends_everything(home: Path) -> None:
    async with Run(home) as run:
        variables, processes = await run.ready(), run.processes()
        run.hang_up()
        await create_user(variables, "unheard@example.com")
        assert await run.exit_code() == 0
        await nothing_left(processes, variables, seconds=0)


async def test_a_killed_supervisor_leaves_nothing_and_the_next_run_goes_on(home: Path) -> None:
    async with Run(home) as run:
        variables, processes = await run.ready(), run.processes()
        user = await create_user(variables, "kept@example.com")
        await run.says(user)
        run.send(signal.SIGKILL)
        await nothing_left(processes, variables)
    async with Run(home) as again:
        later = await again.ready()
        kept_rows = fetch(later["ADMIN_DATABASE_URL"], "select id from clerk_private.objects where id = $1", user)
        assert [row["id"] for row in kept_rows] == [user], "a sweep may have buried it: the emulator forgot it"
        kept = ("CLERK_SECRET_KEY", "WEBHOOK_SECRETS", "CLERK_INSTANCE_ID", "NEXUS_AUTH_WITHHOLD_KEY")
        assert [later[name] for name in kept] == [variables[name] for name in kept]


async def test_a_run_that_is_interrupted_while_it_starts_leaves_nothing(home: Path) -> None:
    for children in (1, 2, 4):
        async with Run(home) as run:
            assert await run.has_processes(children)
            processes = run.processes()
            run.send(signal.SIGINT)
            assert await run.exit_code() == 0, run.text
            assert alive(processes | run.processes()) == []


async def test_a_webhook_service_that_dies_is_named_and_started_again_on_the_same_ports(run: Run) -> None:
    variables = await run.ready()
    os.kill(run.find("services.webhook"), signal.SIGKILL)
    user = await create_user(variables, "patient@example.com")
    await run.says(r"^webhook: was ended by SIGKILL; it is started again in 0\.5 s; its last lines:\n    \S")
    await run.says(r"^webhook: accepts events again")
    await run.says(rf"user\.created +(created|stale) +{user}")  # stale: the reconciler was there before it
    assert await psql(run.home, user) == [f"{user}|patient@example.com"]
    assert listens(variables["WEBHOOK_URL"])
    assert all(listens(url) for url in variables["METRICS_URLS"].split())
    os.kill(run.find("services.webhook"), signal.SIGKILL)
    await run.says(r"^webhook: was ended by SIGKILL; it is started again in 1 s")


@pytest.mark.parametrize(
    ("part", "process"), [("emulator", r"devtools\.clerk_emulator"), ("postgres", r"^(?!.*watchdog).*bin/postgres -D")]
)
async def test_a_run_ends_when_a_part_dies_that_cannot_be_replaced(home: Path, part: str, process: str) -> None:
    async with Run(home) as run:
        variables, processes = await run.ready(), run.processes()
        os.kill(run.find(process), signal.SIGKILL)
        assert await run.exit_code() == 1
        await run.says(rf"^{part}: .*; this run ends")
        await nothing_left(processes, variables, seconds=2)
        assert not run.env_file.exists()


async def test_two_places_run_beside_each_other(run: Run, tmp_path: Path) -> None:
    try:
        async with Run(tmp_path) as other:
            here, there = await run.ready(), await other.ready()
            different = ("WEBHOOK_URL", "EMULATOR_URL", "METRICS_URLS", "ADMIN_DATABASE_URL", "CLERK_SECRET_KEY")
            assert [name for name in different if here[name] == there[name]] == []
            user = await create_user(there, "elsewhere@example.com")
            await other.says(user)
            assert await psql(tmp_path, user) != []
            assert await psql(run.home, user) == []
    finally:
        Server(home_for("run", checkout=tmp_path)).destroy()


async def test_database_url_takes_the_place_of_the_embedded_server(home: Path, database: Database) -> None:
    async with Run(home, environment={"DATABASE_URL": database.admin_url}) as run:
        variables = await run.ready()
        assert variables["ADMIN_DATABASE_URL"] == database.admin_url
        assert not [line for line in run.processes().values() if "bin/postgres" in line]
        user = await create_user(variables, "foreign@example.com")
        await run.says(user)
        assert [row["id"] for row in fetch(database.admin_url, "select id from clerk.users")] == [user]


async def test_a_real_clerk_is_used_where_both_keys_are_given(home: Path) -> None:
    async with Emulator(Settings(users=2, organizations=1, memberships=1, seed=77)) as clerk:
        real = {"CLERK_SECRET_KEY": clerk.secret_key, "CLERK_WEBHOOK_SIGNING_SECRET": SECRET}
        seeded = (await newest_users({**real, "CLERK_API_URL": clerk.api_url}, offset=0))[0]
        async with Run(home, environment=real | {"CLERK_API_URL": clerk.api_url}) as run:
            variables = await run.ready()
            assert "EMULATOR_URL" not in variables
            assert not [line for line in run.processes().values() if "clerk_emulator" in line]
            assert (variables["CLERK_INSTANCE_ID"], variables["WEBHOOK_SECRETS"]) == (clerk.instance_id, SECRET)
            await run.says(r"tunnel")
            await run.says(r"https://<your tunnel>/webhooks/clerk")
            await run.says(r"The reconciler only reports .* NEXUS_AUTH_APPLY=1")
            await run.says(r"^reconciler: full sweep: found 4 missing; nothing repaired")
            assert fetch(variables["ADMIN_DATABASE_URL"], "select id from clerk.users where id = $1", seeded) == []
            clerk.add_endpoint(variables["WEBHOOK_URL"], secret=SECRET)
            user = clerk.changes.users.create({"email_address": ["real@example.com"]})
            await run.says(rf"user\.created +created +{user.id}")
            assert await psql(home, user.id) == [f"{user.id}|real@example.com"]
        applied = real | {"CLERK_API_URL": clerk.api_url, "NEXUS_AUTH_APPLY": "1"}
        async with Run(home, environment=applied) as run:
            await run.says(r"The reconciler repairs what it finds")


async def ids(variables: Mapping[str, str]) -> set[str]:
    return {row["id"] for row in fetch(variables["ADMIN_DATABASE_URL"], "select id from clerk.users")}


async def test_a_second_run_goes_on_where_the_first_one_ended_and_a_fresh_one_begins_anew(tmp_path: Path) -> None:
    try:
        async with Run(tmp_path) as run:
            variables = await run.ready()
            await run.says(r"^reconciler: backfill: ", seconds=200)
            ada, grace = [await create_user(variables, f"{name}@example.com") for name in ("ada", "grace")]
            seeded = (await newest_users(variables, offset=4_000))[0]
            for gone in (grace, seeded):
                await delete_user(variables, gone)
                await run.says(rf"user\.deleted +deleted +{gone}")
            run.send(signal.SIGTERM)
            assert await run.exit_code() == 0
        # The shell of the second run has read `.run/env` of the first one.
        async with Run(tmp_path, environment=variables) as again:
            variables = await again.ready()
            assert "EMULATOR_URL" in variables
            await again.says(r"^reconciler: full sweep: 5,\d\d\d users compared .* all in step", seconds=200)
            assert "resurfaced" not in again.text
            kept = await ids(variables)
            assert (ada in kept, grace in kept, seeded in kept) == (True, False, False)
            again.send(signal.SIGTERM)
            assert await again.exit_code() == 0
        async with Run(tmp_path, arguments=["--fresh"]) as fresh:
            variables = await fresh.ready()
            await fresh.says(r"^reconciler: backfill: 5,000 users", seconds=200)
            kept = await ids(variables)
            assert (ada in kept, seeded in kept) == (False, True)
    finally:
        Server(home_for("run", checkout=tmp_path)).destroy()


async def refused(home: Path, environment: Mapping[str, str]) -> str:
    """Starts a run that must not come to be, and answers its one sentence."""
    done = await finished(command(home), environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert not (home / ".run" / "env").exists()
    return done.stderr


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"CLERK_SECRET_KEY": "sk_test_x"}, "CLERK_WEBHOOK_SIGNING_SECRET is not"),
        ({"CLERK_WEBHOOK_SIGNING_SECRET": SECRET}, "CLERK_SECRET_KEY is not"),
        ({"CLERK_SECRET_KEY": "", "CLERK_WEBHOOK_SIGNING_SECRET": SECRET}, "CLERK_SECRET_KEY is not"),
        ({"CLERK_SECRET_KEY": "sk_live_x", "CLERK_WEBHOOK_SIGNING_SECRET": SECRET}, "NEXUS_AUTH_ALLOW_LIVE=1"),
        ({"CLERK_SECRET_KEY": "sk_test_x", "CLERK_WEBHOOK_SIGNING_SECRET": "x y"}, "a signing secret is whsec_"),
        ({"DATABASE_URL": "postgresql://owner:secret@db.example.com/app"}, "not on this machine"),
        ({"DATABASE_URL": "postgresql://127.0.0.1/app"}, "postgresql://user:password@host:port/database"),
    ],
)
async def test_a_half_or_a_live_world_is_refused(tmp_path: Path, environment: dict[str, str], sentence: str) -> None:
    said = await refused(tmp_path, environment)
    assert sentence in said
    assert [value for value in environment.values() if value and value in said] == []


async def test_a_key_that_clerk_refuses_and_one_of_another_instance_are_refused(home: Path) -> None:
    async with Emulator(Settings(users=1, organizations=0, memberships=0, seed=78)) as clerk:
        real = {"CLERK_WEBHOOK_SIGNING_SECRET": SECRET, "CLERK_API_URL": clerk.api_url}
        assert "refused the key" in await refused(home, real | {"CLERK_SECRET_KEY": "sk_test_unknown"})
        other = {"CLERK_SECRET_KEY": clerk.secret_key, "CLERK_INSTANCE_ID": "ins_other"}
        assert "CLERK_INSTANCE_ID says ins_other" in await refused(home, real | other)


async def test_a_live_key_is_taken_where_it_is_meant(home: Path) -> None:
    async with Emulator(
        Settings(users=1, organizations=0, memberships=0, seed=79, secret_key="sk_live_tests")
    ) as clerk:
        real = {"CLERK_SECRET_KEY": "sk_live_tests", "CLERK_WEBHOOK_SIGNING_SECRET": SECRET}
        real |= {"CLERK_API_URL": clerk.api_url, "NEXUS_AUTH_ALLOW_LIVE": "1"}
        async with Run(home, environment=real) as run:
            await run.says(r"Clerk .*LIVE key")
            assert "sk_live_tests" not in run.text
