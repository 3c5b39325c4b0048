"""Promise 2: without a sweep, the final state depends only on the set of events received."""

import hypothesis

from tests.model import expected
from tests.properties.pair import Pair
from tests.properties.plans import Plan, Reached, as_found, describe, describe_wave, plans


def test_the_final_state_depends_only_on_the_set_of_events(pair: Pair) -> None:
    reached = Reached()

    @as_found
    @hypothesis.given(plan=plans())
    def check(plan: Plan) -> None:
        reached.note(*pair.run(both_orders(plan)))

    async def both_orders(plan: Plan) -> set[str]:
        found = set()
        model = expected(plan.events)
        for schedule in plan.schedules:
            await pair.forget()
            found |= describe(schedule)
            for number, wave in enumerate(schedule.waves):
                found |= describe_wave(await pair.deliver(wave))
                if number in schedule.replays:
                    await pair.replay()
            assert model.differs_from(await pair.mirror()) == []
            assert await pair.parked() == 0
            found |= {f"outcome {outcome}" for outcome in await pair.outcomes()}
        return found

    check()
    reached.expect(
        *("repeated", "deleted before created", "written after deleted", "member of somebody deleted"),
        *("tie of updated_at", "tie but for the svix-id", "older came later", "signed long ago"),
        *("replayed in between", "the same event twice at once", "two events at once"),
        *(f"outcome {name}" for name in ("created", "updated", "stale", "deleted", "buried")),
    )
