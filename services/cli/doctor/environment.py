"""What there is to be checked: logins, API keys and signing secrets, wherever this environment names them.

Read leniently and in one place: an environment of the webhook service, of the standalone reconciler or of the command
line, or the `.run/env` of a running `make run`. What cannot be read becomes a problem and hides nothing else.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nexus_auth.clerk.signature import NoSecret, fingerprint, secrets_from
from services.cli.settings import NotConfigured, find_run_file, read_run_file

LOGINS = {
    "DATABASE_URL": None,
    "WEBHOOK_DATABASE_URL": "webhook",
    "RECONCILER_DATABASE_URL": "reconciler",
    "CLI_DATABASE_URL": "cli",
    "WORKER_DATABASE_URL": "worker",
}
"""Variables that hold a login's URL, and the group that it must be a member of, where the name says it."""

DEFAULT_API = "https://api.clerk.com"
SECRET_VARIABLES = ("CLERK_WEBHOOK_SIGNING_SECRET", "CLERK_WEBHOOK_SIGNING_SECRETS", "WEBHOOK_SECRETS")
WITHHOLD_CHARACTERS = 32


@dataclass(frozen=True, slots=True)
class LoginUrl:
    """A database URL, and where it came from."""

    source: str
    service: str | None
    url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of Clerk's API, and where it came from."""

    source: str
    api_url: str
    instance_id: str | None
    """What the settings expect."""
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A webhook signing secret by its public name."""

    source: str
    fingerprint: str
    bytes: int


@dataclass(frozen=True)
class Environment:
    """Everything that was found."""

    source: str
    logins: tuple[LoginUrl, ...]
    keys: tuple[ApiKey, ...]
    secrets: tuple[SigningSecret, ...]
    receives: bool
    """Whether signing secrets are named at all, hence whether this is the webhook service's environment."""
    role_prefix: str
    allow_fsync_off: bool
    problems: tuple[str, ...]
    """Sentences about settings that are missing or cannot be read."""


def read_environment(environment: Mapping[str, str] = os.environ, *, folder: Path | None = None) -> Environment:
    """Reads the process's environment or, where that names no database, the nearest `.run/env`."""
    variables = {name: value.strip() for name, value in environment.items() if value.strip()}
    named = {*LOGINS, "NEXUS_AUTH_DATABASE_URL_FILE", "NEXUS_AUTH_MANIFESTS"}
    source = "the environment"
    problems: list[str] = []
    if not named & variables.keys():
        file = find_run_file(folder or Path.cwd())
        if file is None:
            problems.append(
                "no database is named: set DATABASE_URL (or CLI_DATABASE_URL), or work below the folder of a make run"
            )
        else:
            source = str(file)
            try:
                variables = read_run_file(file)
            except NotConfigured as error:
                problems.append(error.message)
            variables.pop("DATABASE_URL", None)
    reader = _Reader(variables, problems)
    logins, keys = reader.logins(), reader.keys()
    from_manifests = reader.manifests()
    return Environment(
        source=source,
        logins=(*logins, *from_manifests[0]),
        keys=(*keys, *from_manifests[1]),
        secrets=reader.secrets(),
        receives=reader.receives(),
        role_prefix=reader.role_prefix(),
        allow_fsync_off=variables.get("NEXUS_AUTH_ALLOW_FSYNC_OFF", "").lower() in ("1", "true"),
        problems=tuple(problems),
    )


class _Reader:
    """Takes the variables apart; appends to `problems` what cannot be read."""

    def __init__(self, variables: Mapping[str, str], problems: list[str]) -> None:
        self._variables = variables
        self._problems = problems

    def logins(self) -> list[LoginUrl]:
        variables = self._variables
        found = [LoginUrl(name, service, variables[name]) for name, service in LOGINS.items() if name in variables]
        if text := self._file("NEXUS_AUTH_DATABASE_URL_FILE"):
            found = [login for login in found if login.source != "DATABASE_URL"]
            found.insert(0, LoginUrl("NEXUS_AUTH_DATABASE_URL_FILE", None, text))
        return found

    def keys(self) -> list[ApiKey]:
        variables = self._variables
        key, source = self._file("CLERK_SECRET_KEY_FILE"), "CLERK_SECRET_KEY_FILE"
        if not key:
            key, source = variables.get("CLERK_SECRET_KEY", ""), "CLERK_SECRET_KEY"
        expected = variables.get("CLERK_INSTANCE_ID")
        if expected and not re.fullmatch(r"ins_\w+", expected):
            self._problems.append("CLERK_INSTANCE_ID is no instance: ins_…, as Clerk's dashboard shows it")
        url = variables.get("CLERK_API_URL", DEFAULT_API)
        return [ApiKey(source, url, expected, key)] if key else []

    def manifests(self) -> tuple[list[LoginUrl], list[ApiKey]]:
        """What the standalone reconciler's manifests name."""
        text, folder = self._file("NEXUS_AUTH_MANIFESTS"), self._variables.get("NEXUS_AUTH_SECRETS_DIR")
        logins: dict[str, LoginUrl] = {}
        keys: list[ApiKey] = []
        if not text:
            return [], []
        if folder is None:
            self._problems.append(
                "NEXUS_AUTH_SECRETS_DIR is not set: the folder of the Secrets that the manifests name"
            )
            return [], []
        try:
            documents = [of for of in yaml.safe_load_all(text) if isinstance(of, dict)]
        except yaml.YAMLError:
            self._problems.append("NEXUS_AUTH_MANIFESTS is no YAML")
            return [], []
        for of in documents:
            spec: dict[str, Any] = of["spec"] if isinstance(of.get("spec"), dict) else {}
            state, database = spec.get("stateDatabase") or {}, spec.get("database") or {}
            for ref in (state.get("secretRef"), database.get("secretRef")):
                if ref and (url := self._secret(folder, ref, default="url")):
                    logins.setdefault(url, LoginUrl(f"secret {ref['name']}", "reconciler", url))
            ref = spec.get("secretKeyRef")
            if ref and (key := self._secret(folder, ref, default="secret-key")):
                url = str(spec.get("apiUrl") or DEFAULT_API)
                keys.append(ApiKey(f"secret {ref['name']}", url, spec.get("instanceId"), key))
        return list(logins.values()), keys

    def secrets(self) -> tuple[SigningSecret, ...]:
        texts = [(name, self._variables[name]) for name in SECRET_VARIABLES if name in self._variables]
        if folder := self._variables.get("NEXUS_AUTH_WEBHOOK_SECRETS_DIR"):
            try:
                files = sorted(file for file in Path(folder).iterdir() if not file.name.startswith("."))
                texts += [(f"file {file.name}", file.read_text("utf-8")) for file in files if file.is_file()]
            except (OSError, UnicodeDecodeError) as error:
                self._problems.append(f"NEXUS_AUTH_WEBHOOK_SECRETS_DIR cannot be read ({type(error).__name__})")
        found: dict[str, SigningSecret] = {}
        for source, text in texts:
            try:
                for secret in secrets_from(text):
                    name = fingerprint(secret)
                    digits = secret.removeprefix("whsec_").rstrip("=")
                    found.setdefault(name, SigningSecret(source, name, len(digits) * 3 // 4))
            except NoSecret as error:
                self._problems.append(f"{source}: {error}")
        return tuple(found.values())

    def receives(self) -> bool:
        names = ("CLERK_WEBHOOK_SIGNING_SECRET", "NEXUS_AUTH_WEBHOOK_SECRETS_DIR")
        receives = any(name in self._variables for name in names)
        if receives and ("DATABASE_URL" in self._variables or "NEXUS_AUTH_DATABASE_URL_FILE" in self._variables):
            key = self._file("NEXUS_AUTH_WITHHOLD_KEY_FILE") or self._variables.get("NEXUS_AUTH_WITHHOLD_KEY", "")
            if len(key) < WITHHOLD_CHARACTERS:
                self._problems.append(
                    f"NEXUS_AUTH_WITHHOLD_KEY (or …_FILE) needs {WITHHOLD_CHARACTERS} characters or more, and has"
                    f" {len(key)}: openssl rand -hex 32"
                )
        return receives or any(name in self._variables for name in SECRET_VARIABLES)

    def role_prefix(self) -> str:
        prefix = self._variables.get("NEXUS_AUTH_ROLE_PREFIX", "clerk_")
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", prefix):
            self._problems.append("NEXUS_AUTH_ROLE_PREFIX must be lower-case letters, digits and _")
            return "clerk_"
        return prefix

    def _file(self, variable: str) -> str:
        if variable not in self._variables:
            return ""
        try:
            text = Path(self._variables[variable]).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self._problems.append(f"{variable} names a file that cannot be read ({type(error).__name__})")
            return ""
        if not text:
            self._problems.append(f"{variable} names a file that is empty")
        return text

    def _secret(self, folder: str, ref: Mapping[str, Any], *, default: str) -> str:
        name, key = str(ref.get("name")), str(ref.get("key") or default)
        try:
            return (Path(folder) / name / key).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self._problems.append(f"secret {name}: its file {key} cannot be read ({type(error).__name__})")
            return ""
