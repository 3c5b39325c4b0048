"""What `make run` says of a run of the reconciler."""

from typing import Any

from devtools.run.reconciler import MOST_FINDINGS, sweep_lines

BACKFILL = {
    "user": {"seen": 5_000, "missing": 5_000, "repaired": 5_000},
    "organization": {"seen": 1, "missing": 1, "repaired": 1},
}


def said(
    *,
    counts: dict[str, dict[str, int]] | None = None,
    findings: list[dict[str, Any]] | None = None,
    message: str | None = None,
    **run: Any,
) -> list[str]:
    runs = [
        {"id": 7 + place, "mode": "full", "state": "completed", "requests": 12, "seconds": 1.5}
        | {"kind": kind, "counts": of, "message": message}
        | run
        for place, (kind, of) in enumerate((counts or {"user": {}}).items())
    ]
    lines = sweep_lines(runs, findings=findings or [])
    return ["".join(text for text, _ in pieces).rstrip() for pieces in lines]


def finding(number: int = 1) -> dict[str, Any]:
    return {
        "run_id": 7,
        "kind": "user",
        "id": f"user_{number}",
        "problem": "missing",
        "action": "repaired",
        "cause": "never received",
    }


def test_a_backfill_is_told_by_kind() -> None:
    assert said(counts=BACKFILL) == [
        "reconciler: backfill: 5,000 users, 1 organization in 3.0 s  (runs 7 to 8, 24 requests)"
    ]


def test_a_first_sweep_that_only_reports_says_so() -> None:
    reported = {"user": {"seen": 4, "missing": 4}}
    assert said(counts=reported)[0].startswith("reconciler: full sweep: found 4 missing; nothing repaired")


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
    (line,) = said(state="parked", message="15 of 40 rows\x1b[2J: nexus-auth approve 7")
    assert line.startswith("reconciler: full sweep parked: 15 of 40 rows")
    assert "nexus-auth approve 7" in line
    assert "\x1b" not in line


def test_a_sweep_says_what_its_runs_leave_to_the_next() -> None:
    waits = "2 users await their second read"
    (line,) = said(counts={"user": {"seen": 9, "extra": 2, "gone": 2, "awaiting": 2}}, message=waits)
    assert line.startswith("reconciler: full sweep: found 2 gone; nothing repaired in 1.5 s; 2 users await")
    (later,) = said(counts={"user": {"seen": 9, "extra": 2, "awaiting": 2}}, mode="incremental")
    assert "found 2 awaiting their second read" in later
