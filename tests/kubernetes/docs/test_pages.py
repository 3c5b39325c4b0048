"""The pages of docs/kubernetes are held to the product: roles, commands, reasons, links."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.cli.kubernetes.__main__ import main
from services.reconciler.operator import status as operator_status
from tests.kubernetes.chart.rendering import rendered

ROOT = Path(__file__).parents[3]
PAGES = sorted((ROOT / "docs/kubernetes").glob("*.md"))
Rule = tuple[str, str, frozenset[str], frozenset[str]]


def told_rules() -> set[Rule]:
    """The rows of permissions.md."""
    rows = re.findall(
        r"^\| (watched|cluster|own|view|edit) \| (\S+) \| ([^|]+) \| ([^|]+) \|",
        (ROOT / "docs/kubernetes/permissions.md").read_text("utf-8"),
        re.MULTILINE,
    )
    return {(where, group, _words(resources), _words(verbs)) for where, group, resources, verbs in rows}


def rules(documents: list[Any]) -> set[Rule]:
    """Every rule of every role, by where it lies."""
    found = set()
    for role in documents:
        name = role["metadata"]["name"]
        where = {"-lease": "own", "-view": "view", "-edit": "edit"}.get(name[name.rfind("-") :], "watched")
        for rule in role["rules"]:
            for group in rule["apiGroups"]:
                found.add((where, group or "core", frozenset(rule["resources"]), frozenset(rule["verbs"])))
    return found


def roles(**values: Any) -> list[Any]:
    return [of for of in rendered(values).all if of["kind"] in ("Role", "ClusterRole")]


def test_the_page_of_permissions_has_every_rule_of_the_chart_and_no_other() -> None:
    told = told_rules()
    everywhere = rules(roles())
    named = rules(roles(watch={"namespaces": ["one", "two"]}))
    cluster_only = {("cluster", *rule[1:]) for rule in everywhere - named}
    assert told == named | cluster_only


def test_no_role_has_a_wildcard() -> None:
    for role in roles():
        assert "*" not in str(role["rules"])


def commands(program: str) -> Iterator[tuple[str, list[str]]]:
    """Lines of the pages' shell blocks that begin with a program; a backslash joins lines."""
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith(program + " "):
                    yield page.name, shlex.split(line, comments=True)[len(program.split()) :]


@pytest.mark.parametrize(("page", "arguments"), list(commands("kubectl nexus")))
def test_commands_of_kubectl_nexus_can_be_typed_as_written(page: str, arguments: list[str]) -> None:
    name, *rest = arguments
    if name != "--help":
        main.commands[name].make_context(name, rest)


def test_every_command_of_kubectl_nexus_is_told_of() -> None:
    told = {arguments[0] for _, arguments in commands("kubectl nexus")}
    text = "".join(page.read_text("utf-8") for page in PAGES)
    for name in main.commands:
        assert name in told or f"`kubectl nexus {name}`" in text, name


def test_the_chart_can_be_rendered_with_the_values_that_are_typed(helm: Path) -> None:
    typed = [arguments for _, arguments in commands("helm") if arguments[0] == "install"]
    assert typed
    for arguments in typed:
        done = subprocess.run(
            [str(helm), "template", *arguments[1:]], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_every_reason_is_explained() -> None:
    text = (ROOT / "docs/kubernetes/troubleshooting.md").read_text("utf-8")
    sources = [ROOT / "services/reconciler/leading.py", *(ROOT / "services/reconciler/operator").glob("*.py")]
    code = "".join(file.read_text("utf-8") for file in sources)
    reasons = set(re.findall(r'Trouble\(\s*"([A-Z][A-Za-z]+)"', code)) | operator_status.STALLED
    assert len(reasons) > 10
    missing = {reason for reason in reasons if f"`{reason}`" not in text}
    assert missing == set()


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "docs/limits.md", ROOT / "deploy/examples/README.md", ROOT / "README.md"]
)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / link).exists(), link


def _words(text: str) -> frozenset[str]:
    return frozenset(word.strip() for word in text.split(","))
