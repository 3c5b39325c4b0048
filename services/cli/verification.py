"""`nexus-auth inbox verify`: are the stored events still, byte by byte, what Clerk signed?

The svix library's `verify()` insists on five minutes, so its `sign()` is asked for the signature that there should be.
It proves only as much as the secrets are safe: who can write to the database and knows a secret can sign, too.
"""

import hmac
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from nexus_auth.store.inbox import Selection, Stored, count, pages
from services.cli.database import Failed, connected, run
from services.cli.moments import iso
from services.cli.output import print_json, print_table, tell
from services.cli.progress import progress
from services.cli.selection import output_option, selection_of, selects
from services.cli.settings import CliSettings, read_settings

if TYPE_CHECKING:
    from svix.webhooks import Webhook

OK = "ok"
ALTERED = "forged or altered"
UNKNOWN = "secret not at hand"
WITHHELD = "withheld"

MEANING: Mapping[str, str] = {
    OK: "the signature is right for the stored bytes",
    ALTERED: "the stored bytes or headers are not what was signed",
    UNKNOWN: "signed with a secret that is not configured here",
    WITHHELD: "parts were never stored, so the signature cannot be computed",
}
MOST_FINDINGS = 1_000


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one verification."""

    event: Stored
    verdict: str


@click.command()
@click.argument("svix_ids", nargs=-1)
@selects
@output_option
def verify(*, svix_ids: tuple[str, ...], output: str, **filters: Any) -> None:
    """Verify the signatures of stored events again: these, or all that match; exit 1 if one is not what was signed.

    The secrets, retired ones too, come from CLERK_WEBHOOK_SIGNING_SECRET or NEXUS_AUTH_WEBHOOK_SECRETS_DIR.
    """
    selection = selection_of(**filters)
    if svix_ids and not selection.everything:
        raise click.UsageError("give svix-ids or filters, not both")
    settings = read_settings()
    from svix.webhooks import Webhook  # 0.3 s that no other command should pay

    secrets = {name: Webhook(secret) for name, secret in settings.signing_secrets().items()}
    if not secrets:
        raise click.UsageError(
            "no signing secret is at hand: set CLERK_WEBHOOK_SIGNING_SECRET or NEXUS_AUTH_WEBHOOK_SECRETS_DIR"
        )
    run(_verify(settings, selection=selection, svix_ids=svix_ids, secrets=secrets, output=output))


async def _verify(
    settings: CliSettings,
    *,
    selection: Selection,
    svix_ids: tuple[str, ...],
    secrets: "Mapping[str, Webhook]",
    output: str,
) -> None:
    counts: Counter[str] = Counter()
    findings: list[Finding] = []
    if svix_ids:
        selection = replace(selection, ids=svix_ids)
    async with connected(settings) as connection:
        with progress("verified", total=await count(connection, selection=selection)) as advance:
            async for page in pages(connection, selection=selection):
                for event in page:
                    if svix_ids and event.svix_id not in svix_ids:
                        continue  # it only speaks of such an id
                    verdict = judge(event, secrets=secrets)
                    counts[verdict] += 1
                    if (svix_ids or verdict in (ALTERED, UNKNOWN)) and len(findings) < MOST_FINDINGS:
                        findings.append(Finding(replace(event, body=b""), verdict))
                advance(len(page))
    _tell(counts, findings, output=output)
    missing = sorted(set(svix_ids) - {finding.event.svix_id for finding in findings})
    if missing:
        raise Failed(f"not in the inbox: {' '.join(missing)}")
    if counts[ALTERED]:
        raise Failed(f"{counts[ALTERED]} of {counts.total()} events are not what was signed")


def judge(event: Stored, *, secrets: "Mapping[str, Webhook]") -> str:
    """One of the four verdicts, with the secrets by their fingerprints."""
    if event.withheld:
        return WITHHELD
    webhook = secrets.get(event.secret)
    if webhook is None:
        return UNKNOWN
    try:
        at = datetime.fromtimestamp(float(event.svix_timestamp), UTC)
        expected = webhook.sign(event.svix_id, at, event.body.decode("utf-8")).encode()
    except (ValueError, OverflowError, OSError):
        return ALTERED
    given = event.signature.encode("utf-8", "replace").split(b" ")
    matches = [hmac.compare_digest(expected, signature) for signature in given]
    return OK if any(matches) else ALTERED


def _tell(counts: Mapping[str, int], findings: list[Finding], *, output: str) -> None:
    rows = [
        {
            "svix_id": f.event.svix_id,
            "received_at": iso(f.event.received_at),
            "type": f.event.type,
            "verdict": f.verdict,
        }
        | {"secret": f.event.secret}
        for f in findings
    ]
    if output == "json":
        print_json({"counts": {verdict: counts[verdict] for verdict in MEANING}, "findings": rows})
        return
    if rows:
        print_table(
            ("received", "svix id", "type", "secret", "verdict"),
            ((row["received_at"], row["svix_id"], row["type"], row["secret"], row["verdict"]) for row in rows),
        )
    if len(findings) == MOST_FINDINGS:
        tell(f"only the first {MOST_FINDINGS} are listed")
    print_table(("verdict", "events", "meaning"), ((v, counts[v], MEANING[v]) for v in MEANING))
