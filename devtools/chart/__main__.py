"""Writes README table and schema descriptions from values.yaml: `python -m devtools.chart`; `--check` only compares.

A value is explained where it is set, in a comment that begins with `# --`. A value without one is an error: it would
be in the table without a word, or not at all.
"""

import json
import sys
from pathlib import Path

from devtools.chart.schema import Unmatched, described
from devtools.chart.values import Undocumented, Value, read_values

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


def written(chart: Path) -> dict[Path, str]:
    """What the files should hold."""
    values = read_values((chart / "values.yaml").read_text("utf-8"))
    schema = chart / "values.schema.json"
    return {chart / "README.md": readme(chart), schema: described(schema.read_text("utf-8"), values)}


def main(*arguments: str, chart: Path = CHART) -> int:
    """Writes, or with --check says what differs."""
    try:
        wanted = written(chart)
    except (Undocumented, Unmatched) as error:
        print(error, file=sys.stderr)
        return 1
    differing = [file for file, text in wanted.items() if file.read_text("utf-8") != text]
    if "--check" in arguments:
        for file in differing:
            print(f"{file.name} of the chart is not what values.yaml says: make chart-docs", file=sys.stderr)
        return 1 if differing else 0
    for file in differing:
        file.write_text(wanted[file], "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
