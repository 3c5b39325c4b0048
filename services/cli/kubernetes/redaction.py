"""Takes secrets out of what leaves the cluster: known ones by value, unknown ones by what they look like.

Both are needed. A password in a log line looks like nothing; a key that the caller may not read has no value to look
for. What is left over in doubt is left out.
"""

import base64
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

LEFT_OUT = "[left out]"
SHORTEST = 6
"""Characters. Shorter values are not looked for: they occur in words that are no secrets."""

_LOOKS = tuple(
    re.compile(pattern)
    for pattern in (
        r"\b(?:sk|pk)_(?:live|test)_[A-Za-z0-9+/=_$-]+",
        r"\bwhsec_[A-Za-z0-9+/=_-]+",
        r"\bre_[A-Za-z0-9]{8,}_[A-Za-z0-9]+",
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)?",
        r"(?i)\bbearer\s+[A-Za-z0-9._~+/=-]{8,}",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
    )
)
_USERINFO = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?P<userinfo>[^\s/\"'@]+(?:@[^\s/\"'@]+)*)@", re.IGNORECASE)
_ASSIGNED = re.compile(
    r"(?i)(?P<name>[\w.-]*(?:password|passwd|secret|token|api[_-]?key)[\w.-]*[\"']?\s*[=:]\s*[\"']?)(?P<value>[^\s\"',;&}]+)"
)
_PRIVATE_NAMES = re.compile(r"(?i)password|secret|token|key|url|credential|dsn|authorization")
_ANNOTATIONS = ("kubectl.kubernetes.io/last-applied-configuration",)


class Redaction:
    """Knows the values that must not be seen."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        """`values` as they are; their base64, and the passwords within URLs, are looked for too."""
        known = {form for value in values for form in _forms(value)}
        self._known = sorted((form for form in known if len(form) >= SHORTEST), key=len, reverse=True)

    def text(self, text: str) -> str:
        """The text without secrets."""
        for value in self._known:
            text = text.replace(value, LEFT_OUT)
        for look in _LOOKS:
            text = look.sub(LEFT_OUT, text)
        return _USERINFO.sub(rf"\g<scheme>{LEFT_OUT}@", text)

    def tree(self, value: Any) -> Any:
        """Objects without secrets. Each string is searched whole, before a YAML writer breaks it into lines."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.tree(part) for part in value]
        if isinstance(value, dict):
            return {key: self.tree(part) for key, part in value.items()}
        return value

    def log(self, line: str) -> str:
        """A log line without secrets, and without values assigned to names such as `password`."""
        return _ASSIGNED.sub(rf"\g<name>{LEFT_OUT}", self.text(line))


def bare(of: Mapping[str, Any]) -> dict[str, Any]:
    """An object without the parts that may copy secrets: applied configuration, managed fields, environment values."""
    meta = {key: value for key, value in of["metadata"].items() if key != "managedFields"}
    if "annotations" in meta:
        meta["annotations"] = {k: v for k, v in meta["annotations"].items() if k not in _ANNOTATIONS}
    cleaned: dict[str, Any] = {**_without_values(dict(of)), "metadata": meta}
    return cleaned


def secret_outline(of: Mapping[str, Any]) -> dict[str, Any]:
    """Of a Secret: its name and version, whether the operator may read it, and its keys with their lengths."""
    meta = of["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    readable = (meta.get("labels") or {}).get("nexus-auth.dev/readable")
    data = of.get("data") or {}
    return {
        "kind": "Secret",
        "metadata": {key: meta[key] for key in kept if key in meta},
        "type": of.get("type"),
        "readable": readable == "true",
        "keys": {key: f"{len(_decoded(value))} bytes" for key, value in sorted(data.items())},
    }


def secret_values(of: Mapping[str, Any]) -> list[str]:
    """What its keys hold."""
    return [_decoded(value).decode("utf-8", "ignore").strip() for value in (of.get("data") or {}).values()]


def _without_values(value: Any) -> Any:
    """Values of environment variables go, unless their names are ours and speak of nothing private."""
    if isinstance(value, list):
        return [_without_values(part) for part in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"name", "value"}:
        name = str(value["name"])
        shown = name.startswith("NEXUS_AUTH_") and not _PRIVATE_NAMES.search(name.removesuffix("_FILE"))
        return value if shown else {"name": name, "value": LEFT_OUT}
    return {key: _without_values(part) for key, part in value.items()}


def _forms(value: str) -> Iterable[str]:
    yield value
    yield from value.split()
    for text in (value, value + "\n"):
        yield base64.b64encode(text.encode()).decode()
    try:
        password = urlsplit(value).password
    except ValueError:
        password = None
    if password:
        yield password
        yield unquote(password)


def _decoded(value: Any) -> bytes:
    try:
        return base64.b64decode(str(value))
    except ValueError:
        return b""
