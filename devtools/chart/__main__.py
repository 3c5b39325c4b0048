"""Writes the chart README's table from values.yaml: `python -m devtools.chart`, with `--check` only compares.

A value is explained where it is set, in a comment that begins with `# --`. A value without one is an error: it would
be in the table without a word, or not at all.
"""

import json
import sys
from pathlib import Path

from devtools.chart.values import Value, read_values

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "nexus-auth"
BEGIN, END = "<!-- values: written by `make chart-docs` -->", "<!-- end of values -->"
WIDEST = 60
"""Characters of a default that is shown; a longer one is in values.yaml."""


def table(values: list[Value]) -> str:
    """A Markdown table."""
    rows = ["| value | default | |", "|---|---|---|"]
    for value in values:
        shown = json.dumps(value.default, ensure_ascii=False)
        shown = f"`{shown}`" if len(shown) <= WIDEST else "see values.yaml"
        rows.append(f"| `{value.name}` | {shown} | {value.text.replace('|', chr(92) + '|')} |")
    return "\n".join(rows)


def readme(chart: Path) -> str:
    """The README as it should be."""
    text = (chart / "README.md").read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    written = table(read_values((chart / "values.yaml").read_text("utf-8")))
    return f"{before}{BEGIN}\n\n{written}\n\n{END}{after}"


def main(*arguments: str, chart: Path = CHART) -> int:
    """Writes, or with --check says what differs."""
    wanted, file = readme(chart), chart / "README.md"
    if "--check" in arguments:
        if file.read_text("utf-8") != wanted:
            print("deploy/helm/nexus-auth/README.md is not what values.yaml says: make chart-docs", file=sys.stderr)
            return 1
        return 0
    file.write_text(wanted, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
