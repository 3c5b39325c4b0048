"""Reads values.yaml together with its comments, which a YAML parser drops.

Only what this file needs: keys in block style, two spaces a level, `# --` above a documented key. The values
themselves come from the real parser, so that the two are held to each other.
"""

import re
from dataclasses import dataclass
from typing import Any

import yaml

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):")
_COMMENT = re.compile(r"^ *# ?(?P<text>.*)$")


class Undocumented(Exception):
    """Values without a comment; names them."""


@dataclass(frozen=True, slots=True)
class Value:
    """One row."""

    name: str
    """Dotted."""
    default: Any
    text: str


def read_values(source: str) -> list[Value]:
    """Every documented value, in the file's order. Raises `Undocumented`."""
    comments, values = _comments(source), yaml.safe_load(source)
    found = [Value(name, _at(values, name), text) for name, text in comments.items()]
    known = set(comments)
    missing = [name for name in _leaves(values, known) if name not in known]
    if missing:
        raise Undocumented(f"values.yaml says nothing about {', '.join(missing)}")
    return found


def _comments(source: str) -> dict[str, str]:
    """Dotted name → text of the comment that begins with `--`."""
    found: dict[str, str] = {}
    path: list[str] = []
    text: list[str] | None = None
    for line in source.splitlines():
        if comment := _COMMENT.match(line):
            said = comment["text"]
            if said.startswith("-- "):
                text = [said[3:]]
            elif text is not None:
                text.append(said)
            continue
        if key := _KEY.match(line):
            path = [*path[: len(key["indent"]) // 2], key["key"]]
            if text is not None:
                found[".".join(path)] = " ".join(text)
        text = None
    return found


def _leaves(value: Any, known: set[str], name: str = "") -> list[str]:
    """Names of what is set and lies below no documented value."""
    if name in known or not isinstance(value, dict) or not value:
        return [name]
    return [
        leaf for key, inner in value.items() for leaf in _leaves(inner, known, f"{name}.{key}" if name else str(key))
    ]


def _at(values: Any, name: str) -> Any:
    for key in name.split("."):
        values = values[key]
    return values
