"""Checks of Clerk: does the API answer, whose key is it, how is its clock, and do its events arrive here?"""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from nexus_auth.clerk.api import ClerkApi, ClerkRefused, ClerkUnavailable, instance_id_of
from services.cli.doctor.checks import ANSWER_NO, CLERK, DATABASE, SETTINGS, Checked, failed, note, ok
from services.cli.doctor.database import DatabaseFacts, clock
from services.cli.doctor.environment import ApiKey, SigningSecret
from services.cli.status import ago

ARRIVES_WITHIN = timedelta(minutes=5)
"""So long after Clerk's change its event should have arrived; deliveries that failed are repeated later than that."""

ENDPOINT = "Clerk's dashboard → Webhooks → your endpoint"


class _Changed(msgspec.Struct):
    updated_at: int = 0


async def check_key(
    key: ApiKey, *, databases: Mapping[str, DatabaseFacts], changed: dict[str, datetime]
) -> AsyncIterator[Checked]:
    """Asks `/instance` and for the user who changed last, two requests; notes in `changed` when that was."""
    try:
        api = ClerkApi(key.api_url, secret_key=key.key)
    except ValueError as error:
        yield failed("API key", f"{key.source}: {error}", code=SETTINGS)
        return
    async with api:
        began = time.time()
        try:
            answer = await api.read("/instance")
            instance_id = instance_id_of(answer)
        except (ClerkRefused, ClerkUnavailable) as error:
            yield failed("API key", f"{key.source}: {error}", code=CLERK)
            return
        answered = time.time()
        sort = "live" if not key.key.startswith("sk_test_") else "test"
        yield ok("API key", f"{key.source}: a {sort} key of {instance_id}, at {api.url}")
        # `asked_at` is by Clerk's clock where that is more than 2 s off ours
        theirs = answer.asked_at / 1000 + (answered - began)
        yield clock("clock of Clerk", theirs, began=began, answered=answered, granularity=1.0)
        yield _instance(instance_id, key=key, databases=databases)
        try:
            newest = await api.read("/users", [("limit", "1"), ("order_by", "-updated_at")])
            users = msgspec.json.decode(newest.body, type=list[_Changed])
        except (ClerkRefused, ClerkUnavailable, msgspec.DecodeError) as error:
            said = str(error) if not isinstance(error, msgspec.DecodeError) else "/users answered no list of users"
            yield failed("API", f"{key.source}: {said}", code=CLERK)
            return
        if users and users[0].updated_at:
            changed[instance_id] = datetime.fromtimestamp(users[0].updated_at / 1000, UTC)


def _instance(found: str, *, key: ApiKey, databases: Mapping[str, DatabaseFacts]) -> Checked:
    if key.instance_id not in (None, found):
        said = f"{key.source} belongs to {found}, and the settings expect {key.instance_id}; one of them is wrong"
        return failed("instance", said, code=CLERK)
    for where, facts in databases.items():
        if facts.holder not in (None, found):
            return failed(
                "instance",
                f"{key.source} belongs to {found}, and {where} to {facts.holder}: use that instance's key, or give the"
                f" database to this one (nexus-auth instance claim {found})",
                code=DATABASE,
            )
    held = [where for where, facts in databases.items() if facts.holder == found]
    if not held:
        return note("instance", f"no database belongs to {found} yet; the first service that starts claims it")
    return ok("instance", f"{found} holds the database")


async def check_secrets(
    secrets: Sequence[SigningSecret], *, databases: Mapping[str, DatabaseFacts]
) -> AsyncIterator[Checked]:
    """Names each secret by fingerprint and length, and sets them beside those that verified events or lost trust."""
    for secret in secrets:
        yield ok("signing secret", f"{secret.source}: {secret.bytes} bytes, fingerprint {secret.fingerprint}")
    at_hand = {secret.fingerprint for secret in secrets}
    for facts in databases.values():
        for fingerprint, since in (facts.distrusted or {}).items():
            yield failed(
                "signing secret",
                f"Clerk contradicted deletions under {fingerprint}: further ones are held since"
                f" {since:%Y-%m-%d %H:%M} UTC. Rotate this secret, then nexus-auth held clear {fingerprint}",
            )
        for fingerprint, last in (facts.secrets or {}).items():
            if fingerprint not in at_hand and at_hand:
                said = (
                    f"events up to {last:%Y-%m-%d %H:%M} UTC were verified with {fingerprint}, which is not named here"
                )
                yield note("signing secret", said)


async def check_arrivals(
    databases: Mapping[str, DatabaseFacts], *, changed: Mapping[str, datetime], now: datetime
) -> AsyncIterator[Checked]:
    """Do events arrive? A change that Clerk made while none came says no."""
    for facts in databases.values():
        last, change = facts.last_event_at, changed.get(facts.holder or "")
        came = f"the last event came {ago(last, now=now)}" if last else "no event has ever come"
        begun = facts.claimed_at or last
        missed = (
            change is not None
            and begun is not None
            and max(begun, last or begun) + ARRIVES_WITHIN < change < now - ARRIVES_WITHIN
        )
        if missed and change is not None:
            said = f"{came}, and Clerk changed a user {ago(change, now=now)}: see in {ENDPOINT} whether it is enabled,"
            yield failed(
                "events", f"{said} whether its URL is this service's, and what it was answered", code=ANSWER_NO
            )
        elif last is None:
            yield note("events", f"{came}; {ENDPOINT} → Testing sends an example, which is refused and counted as such")
        else:
            yield ok("events", came)
