"""What a run's counts are called, in tables and sentences."""

from collections.abc import Mapping

from nexus_auth.clerk.catalogue import BY_KIND, PROJECTED

Counts = Mapping[str, Mapping[str, int]]
"""By kind, then by what was counted."""

KINDS = {entity.resource: entity.kind for entity in PROJECTED}
"""Kinds as people and manifests name them, and as the database does."""

DRIFT = ("missing", "stale", "deep", "edited", "projection", "unadopted", "refused", "resurfaced", "ahead")
"""What differs for certain. Of what Clerk does not list see `unlisted`."""

DONE = ("repaired", "adopted", "tombstoned", "revived", "lowered", "children")


BY_HAND, REPORTED = "/by-hand", "/report"
"""What follows a sync's name in runs of `nexus-auth sync` beside a leader, and in those that only report."""


def kind_words(kind: str, number: int) -> str:
    """`user` as people say it: user, users."""
    entity = BY_KIND.get(kind)
    return kind if entity is None else entity.nouns[number != 1]


def unlisted(of_kind: Mapping[str, int]) -> Mapping[str, int]:
    """Rows that Clerk does not list, by how far that is known.

    gone: a read by name says so too. awaiting: an earlier run found that, and the second read is to come. extra: not
    asked for by name yet.
    """
    gone = of_kind.get("gone", 0)
    awaiting = max(0, of_kind.get("awaiting", 0) - gone)
    extra = max(0, of_kind.get("extra", 0) - gone - awaiting - of_kind.get("refuted", 0))
    return {"gone": gone, "awaiting their second read": awaiting, "extra": extra}


def differing(counts: Counts) -> int:
    """Rows that were not as Clerk has them."""
    return sum(_differences(counts).values())


def found_of(counts: Counts) -> str:
    """Differences of all kinds, one after the other; "in step" where there are none."""
    return ", ".join(f"{number:,} {what}" for what, number in _differences(counts).items()) or "in step"


def repaired_of(counts: Counts) -> str:
    """Repairs and burials of all kinds."""
    done = {what: sum(of.get(what, 0) for of in counts.values()) for what in DONE}
    return ", ".join(f"{number:,} {what}" for what, number in done.items() if number) or "-"


def _differences(counts: Counts) -> Mapping[str, int]:
    total: dict[str, int] = {}
    for of_kind in counts.values():
        for what, number in ({what: of_kind.get(what, 0) for what in DRIFT} | dict(unlisted(of_kind))).items():
            if number:
                total[what] = total.get(what, 0) + number
    return total
