"""What a run's counts are called, in tables and sentences."""

from collections.abc import Mapping

Counts = Mapping[str, Mapping[str, int]]
"""By kind, then by what was counted."""

WORDS = {
    "user": ("user", "users"),
    "organization": ("organization", "organizations"),
    "organization_membership": ("membership", "memberships"),
}
KINDS = {"users": "user", "organizations": "organization", "memberships": "organization_membership"}
"""Kinds as people and manifests name them, and as the database does."""

DRIFT = ("missing", "stale", "deep", "edited", "projection", "resurfaced", "ahead")
"""What differs for certain. Of what is extra see `undecided`."""


def kind_words(kind: str, number: int) -> str:
    """`user` as people say it: user, users."""
    one, many = WORDS.get(kind, (kind, kind))
    return one if number == 1 else many


def undecided(of_kind: Mapping[str, int]) -> int:
    """Extra rows (Clerk does not list them) that no read by name has decided about yet."""
    return max(0, of_kind.get("extra", 0) - of_kind.get("gone", 0) - of_kind.get("refuted", 0))


def differing(counts: Counts) -> int:
    """Rows that were not as Clerk has them."""
    return sum(sum(of.get(what, 0) for what in (*DRIFT, "gone")) + undecided(of) for of in counts.values())


def found_of(counts: Counts) -> str:
    """Differences of all kinds, one after the other; "in step" where there are none."""
    total: dict[str, int] = {}
    for of_kind in counts.values():
        for what in (*DRIFT, "gone"):
            if of_kind.get(what):
                total[what] = total.get(what, 0) + of_kind[what]
        if undecided(of_kind):
            total["extra"] = total.get("extra", 0) + undecided(of_kind)
    return ", ".join(f"{number:,} {what}" for what, number in total.items()) or "in step"


def repaired_of(counts: Counts) -> str:
    """Repairs and burials of all kinds."""
    words = ("repaired", "tombstoned", "revived", "lowered")
    done = {what: sum(of.get(what, 0) for of in counts.values()) for what in words}
    return ", ".join(f"{number:,} {what}" for what, number in done.items() if number) or "-"
