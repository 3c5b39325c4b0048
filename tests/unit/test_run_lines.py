"""What `make run` says of a run of the reconciler."""

from typing import Any

from devtools.run.reconciler import MOST_FINDINGS, run_lines

BACKFILL = {
    "user": {"seen": 5_000, "missing": 5_000, "repaired": 5_000},
    "organization": {"seen": 1, "missing": 1, "repaired": 1},
}


def said(*, findings: list[dict[str, str]] | None = None, **entry: Any) -> list[str]:
    known = {"run": 7, "mode": "full", "state": "completed", "requests": 12, "counts": {}, "why": None}
    lines = run_lines({**known, **entry}, seconds=1.5, findings=findings or [])
    return ["".join(text for text, _ in pieces).rstrip() for pieces in lines]


def finding(number: int = 1) -> dict[str, str]:
    return {
        "kind": "user",
        "id": f"user_{number}",
        "problem": "missing",
        "action": "repaired",
        "cause": "never received",
    }


def test_a_backfill_is_told_by_kind() -> None:
    assert said(counts=BACKFILL) == ["reconciler: backfill: 5,000 users, 1 organization in 1.5 s  (run 7, 12 requests)"]


def test_a_first_sweep_that_only_reports_says_so() -> None:
    reported = {"user": {"seen": 4, "missing": 4}}
    assert said(counts=reported, reason="first sweep")[0].startswith(
        "reconciler: full sweep: found 4 missing; nothing repaired"
    )


def test_a_look_that_found_nothing_is_not_worth_a_line_and_a_sweep_is() -> None:
    assert said(mode="incremental") == []
    assert said(counts={"user": {"seen": 1_200}}) == [
        "reconciler: full sweep: 1,200 users compared in 1.5 s, all in step  (run 7, 12 requests)"
    ]


def test_extra_rows_that_were_only_reported_are_not_in_step() -> None:
    (line,) = said(counts={"user": {"seen": 5_000, "extra": 1_557}})
    assert line.startswith("reconciler: full sweep: found 1,557 extra; nothing repaired")


def test_findings_come_with_their_cause_and_not_without_end() -> None:
    counts = {"user": {"seen": 3, "missing": 1, "repaired": 1}}
    line, first = said(mode="incremental", counts=counts, findings=[finding()])
    assert line.startswith("reconciler: look: found 1 missing; 1 repaired in 1.5 s")
    assert first.split() == ["missing", "user", "user_1", "repaired", "never", "received"]
    many = said(counts=counts, findings=[finding(number) for number in range(MOST_FINDINGS + 1)])
    assert len(many) == MOST_FINDINGS + 2
    assert "nexus-auth findings --run 7" in many[-1]


def test_a_parked_run_says_what_to_do_and_steers_no_terminal() -> None:
    (line,) = said(state="parked", why="15 of 40 rows\x1b[2J: nexus-auth approve 7")
    assert line.startswith("reconciler: full sweep parked: 15 of 40 rows")
    assert "nexus-auth approve 7" in line
    assert "\x1b" not in line
