"""How drift is found and undone: what Clerk told and nobody heard, and what a hand changed in Postgres."""

from collections import Counter
from collections.abc import Mapping

from devtools.clerk_emulator import Fault
from devtools.demo.stage import Stage
from devtools.demo.story import Checks, Step
from nexus_auth.store.runs import Policy

LOST = 10


async def _lost(stage: Stage, checks: Checks, sabotaged: bool) -> None:
    wanted = await _lose_ten(stage, checks)
    result = await stage.reconcile(drift=_policy(sabotaged))
    again = await stage.read_again()
    findings = {row["id"]: row for row in await stage.findings(result.sweep_id)}
    problems = Counter(row["problem"] for row in findings.values())
    checks.that(
        f"the next sweep finds these ten and no other: {_listed(problems)}",
        set(findings) == set(wanted),
        expected=f"findings of the {LOST} objects",
        seen=_listed(problems) or "no finding",
    )
    causes = Counter(str(row["cause"]) for row in findings.values())
    checks.equal("it says why, of each: never received", dict(causes), expected={"never received": LOST})
    right = [object_id for object_id, is_right in wanted.items() if await is_right.holds(stage)]
    actions = Counter(row["action"] for row in findings.values())
    checks.that(
        f"all ten are in Postgres as Clerk has them: {_listed(actions)}",
        len(right) == LOST,
        expected=f"{LOST} objects as Clerk has them",
        seen=f"{len(right)}; the sweep {result.state}, the second read {again.state}, the findings: {_listed(actions)}",
    )
    listed, held = await stage.listed(), await stage.held()
    checks.equal("Postgres holds as many rows as Clerk counts", dict(held), expected=dict(listed))


class _Wanted:
    """How an object's row must be in the end."""

    def __init__(self, kind: str, object_id: str, **columns: object) -> None:
        self.kind, self.id, self.columns = kind, object_id, columns

    async def holds(self, stage: Stage) -> bool:
        """Without columns: the row must be gone."""
        row = await stage.row(self.kind, self.id)
        if not self.columns:
            return row is None
        return row is not None and all(row[name] == value for name, value in self.columns.items())


async def _lose_ten(stage: Stage, checks: Checks) -> Mapping[str, _Wanted]:
    """Changes ten objects in Clerk, of which Postgres hears nothing."""
    clerk = stage.clerk
    lost = clerk.add_fault(Fault("lose", next=LOST))
    changes = clerk.changes
    wanted: list[_Wanted] = []
    for number in range(4):
        user = changes.users.create({"email_address": [f"lost{number}@example.com"], "first_name": "New"})
        wanted.append(_Wanted("user", user.id, primary_email=f"lost{number}@example.com", first_name="New"))
    for _ in range(3):
        user = stage.somebody()
        changes.users.update(user.id, {"first_name": "Renamed"})
        wanted.append(_Wanted("user", user.id, first_name="Renamed"))
    organization = next(iter(clerk.state.organizations))
    for member in wanted[:2]:
        made = changes.memberships.create(organization_id=organization.id, user_id=member.id, role="org:admin")
        wanted.append(_Wanted("organization_membership", made.id, user_id=member.id, role="org:admin"))
    leaver = stage.somebody(member=False)
    changes.users.delete(leaver.id)
    wanted.append(_Wanted("user", leaver.id))
    await clerk.idle()
    clerk.faults.remove(lost.id)
    fates = Counter(message.fate for message, _ in zip(clerk.dispatcher.log.newest_first(), wanted, strict=False))
    checks.equal(
        "Clerk makes 4 users and 2 members, renames 3, deletes 1; all ten events are lost",
        dict(fates),
        expected={"lost": LOST},
    )
    return {each.id: each for each in wanted}


async def _edited(stage: Stage, checks: Checks, sabotaged: bool) -> None:
    changed, removed = stage.somebody().id, stage.somebody().id
    before = [await stage.row("user", changed), await stage.row("user", removed)]
    await stage.admin.execute(
        "update clerk.users set first_name = 'Mallory', public_metadata = '{\"role\": \"admin\"}' where id = $1",
        changed,
    )
    await stage.admin.execute("delete from clerk.users where id = $1", removed)
    result = await stage.reconcile(drift=_policy(sabotaged))
    findings = await stage.findings(result.sweep_id)
    causes = Counter(str(row["cause"]) for row in findings)
    checks.that(
        "a hand makes one user an admin and removes another's row; the next sweep finds both, edited by hand",
        {row["id"] for row in findings} == {changed, removed} and set(causes) == {"edited by hand"},
        expected="2 findings, edited by hand",
        seen=_listed(causes) or "no finding",
    )
    after = [await stage.row("user", changed), await stage.row("user", removed)]
    same = sum(was == now for was, now in zip(before, after, strict=True))
    checks.that(
        "both rows are as they were, in every column",
        same == len(before),
        expected="2 rows as before",
        seen=f"{same}; findings: {_listed(Counter(row['action'] for row in findings))};"
        f" the first name is {after[0]['first_name'] if after[0] else 'gone'}",
    )


def _policy(sabotaged: bool) -> Policy:
    return "Report" if sabotaged else "Fix"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {what}" for what, number in sorted(counts.items()))


REPORTS_ONLY = "the policy is Report: differences are found and left as they are"
LOST_EVENTS = Step("lost", "Ten events are lost; what they told of is repaired", REPORTS_ONLY, _lost)
EDITED = Step("edited", "Rows that somebody edits by hand are put back", REPORTS_ONLY, _edited)
