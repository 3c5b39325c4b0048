"""Promise 6: replay is harmless.

Same rows, however often, between deliveries or at once with them, by the library or by the command.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import hypothesis

from nexus_auth.store.inbox import Selection
from tests.events import INSTANCE, Signed, event, membership, organization, user
from tests.model import expected
from tests.properties.pair import Delivery, Pair
from tests.properties.plans import Plan, Reached, as_found, describe, describe_wave, plans
from tests.service import ROOT

STAND = """
select 'users' as of, id, xmin::text || ctid::text as stands from clerk.users
union all select 'emails', user_id || ' ' || id, xmin::text || ctid::text from clerk.user_emails
union all select 'organizations', id, xmin::text || ctid::text from clerk.organizations
union all select 'memberships', id, xmin::text || ctid::text from clerk.organization_memberships
"""
"""Where each typed row lies and who wrote it: a row that is written again with what it holds already shows here."""

KEPT = "select svix_id, received_at, type, body, observed_at, kind, object_id from clerk_private.inbox order by 1"


def test_replay_leaves_the_same_rows(pair: Pair) -> None:
    reached = Reached()

    @as_found
    @hypothesis.given(plan=plans(whole=False))
    def check(plan: Plan) -> None:
        reached.note(*pair.run(replayed_between(plan)))

    async def replayed_between(plan: Plan) -> set[str]:
        await pair.forget()
        schedule, other = plan.schedules
        found = describe(schedule)
        for number, wave in enumerate(schedule.waves):
            if number in other.replays:  # while deliveries are under way
                answered, _ = await asyncio.gather(pair.deliver(wave), pair.replay())
                found.add("replayed at once with deliveries")
            else:
                answered = await pair.deliver(wave)
            found |= describe_wave(answered)
            if number in schedule.replays:
                await pair.replay()
        found |= {f"outcome {outcome}" for outcome in await pair.outcomes()}
        model, kept = expected(plan.events), await pair.reader.fetch(KEPT)
        outcomes = {replayed.outcome for replayed in await pair.replay()}
        found |= {f"replay {outcome}" for outcome in outcomes}
        assert model.differs_from(await pair.mirror()) == []
        stands = await pair.reader.fetch(STAND)
        await asyncio.gather(pair.replay(), *(pair.deliver(wave) for wave in other.waves))
        assert await pair.reader.fetch(STAND) == stands, "a row was written again"
        assert model.differs_from(await pair.mirror()) == []
        assert await pair.reader.fetch(KEPT) == kept, "the inbox holds other events than before"
        return found

    check()
    reached.expect(
        *("replayed in between", "replayed at once with deliveries", "older came later", "tie of updated_at"),
        *("written after deleted", "member of somebody deleted", "outcome incomplete", "two events at once"),
        *("replay unchanged", "replay stale", "replay deleted", "replay buried"),
    )


def test_replay_of_a_part_is_harmless_too(pair: Pair) -> None:
    @as_found
    @hypothesis.given(plan=plans())
    def check(plan: Plan) -> None:
        pair.run(parts(plan))

    async def parts(plan: Plan) -> None:
        await pair.forget()
        for wave in plan.schedules[0].waves:
            await pair.deliver(wave)
        model = expected(plan.events)
        for selection in (
            *(Selection(ids=(signed.svix_id,)) for signed in plan.events[-3:]),
            Selection(types=("*.created",)),
            Selection(types=("*.deleted",)),
            Selection(states=("applied",)),
            Selection(ids=("user_0",)),
        ):
            await pair.replay(selection)
            assert model.differs_from(await pair.mirror()) == [], selection

    check()


def test_replay_puts_back_what_was_edited_by_hand(pair: Pair) -> None:
    those = [
        Signed(event("user.created", user("user_0", first_name="Grace"))),
        Signed(event("organization.created", organization("org_0"))),
        Signed(
            event("organizationMembership.created", membership("orgmem_0", user_id="user_0", organization_id="org_0"))
        ),
    ]

    async def edit_and_replay() -> None:
        await pair.forget()
        await pair.deliver(Delivery(signed, 0) for signed in those)
        await pair.admin.execute(
            "update clerk.users set first_name = 'edited'; delete from clerk.user_emails;"
            " delete from clerk.organizations; update clerk.organization_memberships set role = 'edited'"
        )
        assert len(expected(those).differs_from(await pair.mirror())) == 4
        await pair.replay()
        assert expected(those).differs_from(await pair.mirror()) == []

    pair.run(edit_and_replay())


def test_the_command_is_as_harmless_while_events_come(pair: Pair, tmp_path: Path) -> None:
    """`nexus-auth replay`, three times at once, beside deliveries."""
    those = [
        *(Signed(event("user.created", user(f"user_{n}"))) for n in range(20)),
        *(Signed(event("user.updated", user(f"user_{n}", first_name=f"Ada {n}"))) for n in range(20)),
        *(Signed(event("user.deleted", {"object": "user", "id": f"user_{n}", "deleted": True})) for n in range(5)),
    ]

    async def command() -> dict[str, Any]:
        environment: dict[str, str] = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": pair.database.url("cli"),
            "CLERK_INSTANCE_ID": INSTANCE,
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.cli", "replay", "--all", "--output", "json"),
            env=environment,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        said, complaints = await process.communicate()
        assert process.returncode == 0, complaints.decode()
        return dict(json.loads(said))

    async def deliver() -> None:
        await pair.forget()
        await pair.deliver(Delivery(signed, n % 2) for n, signed in enumerate(those[:25]))
        commands = asyncio.gather(command(), command(), command())
        await pair.deliver(Delivery(signed, n % 2) for n, signed in enumerate(those[25:]))
        for said in await commands:
            assert 25 <= said["events"] <= 45
        assert expected(those).differs_from(await pair.mirror()) == []
        said = await command()
        assert (said["events"], said["parked"]) == (45, [])
        assert expected(those).differs_from(await pair.mirror()) == []

    pair.run(deliver())
