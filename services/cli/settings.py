"""Settings of the command line: from the environment or, beside a running `make run`, from its `.run/env`.

The two are never mixed: a key of one with an address of the other would send the key to the wrong server.
"""

import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path

import click
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError

from nexus_auth.clerk.signature import NoSecret, fingerprint, secrets_from

RUN_FILE = Path(".run") / "env"
DATABASE_VARIABLES = ("CLI_DATABASE_URL", "DATABASE_URL")
RECONCILER_VARIABLE = "RECONCILER_DATABASE_URL"
"""The login of the commands that run the engine; beside it in the environment, nothing is taken from `.run/env`."""
SECRET_VARIABLES = ("CLERK_WEBHOOK_SIGNING_SECRET", "CLERK_WEBHOOK_SIGNING_SECRETS", "NEXUS_AUTH_WEBHOOK_SECRETS_DIR")
"""Also taken from the environment where the rest comes from `.run/env`: they are compared and sent nowhere."""


class NotConfigured(click.ClickException):
    """A setting is missing or cannot be; names it, and never its value. Ends the program with 2, as wrong usage."""

    exit_code = 2


class CliSettings(BaseModel):
    """What the commands need. Secrets are `SecretStr`: their repr is stars."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)

    database_url: SecretStr = Field(default=SecretStr(""), validation_alias=AliasChoices(*DATABASE_VARIABLES))
    """The command line's own login, a member of its group only."""
    reconciler_database_url: SecretStr = Field(default=SecretStr(""), validation_alias=RECONCILER_VARIABLE)
    """The reconciler's login, for `plan` and `sync`, which do its work in this process."""
    sync_name: str | None = Field(default=None, validation_alias="NEXUS_AUTH_SYNC", max_length=253)
    """The ClerkSync that runs are counted to; `make run` names its own."""
    role_prefix: str = Field(
        default="clerk_", validation_alias="NEXUS_AUTH_ROLE_PREFIX", pattern=r"^[a-z][a-z0-9_]{0,30}$"
    )
    """What our roles' names begin with."""
    clerk_api_url: str = Field(default="https://api.clerk.com", validation_alias="CLERK_API_URL")
    """Root of Clerk's Backend API, without /v1."""
    clerk_secret_key: SecretStr | None = Field(default=None, validation_alias="CLERK_SECRET_KEY")
    clerk_instance_id: str | None = Field(default=None, validation_alias="CLERK_INSTANCE_ID", pattern=r"^ins_\w+$")
    """The instance that the database must belong to before anything is replayed into it."""
    signing_secret: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices(
            "CLERK_WEBHOOK_SIGNING_SECRET", "CLERK_WEBHOOK_SIGNING_SECRETS", "WEBHOOK_SECRETS"
        ),
    )
    """Secrets (whsec_…), separated by white space, the retired ones too: old events were signed with them."""
    webhook_secrets_dir: Path | None = Field(default=None, validation_alias="NEXUS_AUTH_WEBHOOK_SECRETS_DIR")
    """A folder of them; a file may hold several."""
    verify_after: float = Field(default=60.0, ge=0, validation_alias="NEXUS_AUTH_VERIFY_AFTER")
    """Seconds between the two reads by name that delete, revive or lower a row."""
    allow_fsync_off: bool = Field(default=False, validation_alias="NEXUS_AUTH_ALLOW_FSYNC_OFF")
    """Tests only: work on a server that may lose what it committed."""

    def signing_secrets(self) -> Mapping[str, str]:
        """Every signing secret at hand, by its fingerprint. Raises `NotConfigured`."""
        try:
            texts = [self.signing_secret.get_secret_value()]
            if self.webhook_secrets_dir is not None:
                files = sorted(file for file in self.webhook_secrets_dir.iterdir() if not file.name.startswith("."))
                texts += [file.read_text("utf-8") for file in files if file.is_file()]
            return {fingerprint(secret): secret for text in texts for secret in secrets_from(text)}
        except NoSecret as error:
            raise NotConfigured(f"a webhook signing secret cannot be read: {error}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise NotConfigured(f"the folder of signing secrets cannot be read ({type(error).__name__})") from None


def read_settings(
    environment: Mapping[str, str] = os.environ, *, folder: Path | None = None, reconciler: bool = False
) -> CliSettings:
    """Settings from the environment, else from `.run/env` in `folder` or above it. Raises `NotConfigured`.

    `reconciler`: the login that is needed is the reconciler's.
    """
    variables = {name: value for name, value in environment.items() if value}
    if not any(name in variables for name in (*DATABASE_VARIABLES, RECONCILER_VARIABLE)):
        file = find_run_file(folder or Path.cwd())
        if file is None:
            raise NotConfigured(
                "no database is named: set CLI_DATABASE_URL (or DATABASE_URL),"
                f" or work below a folder where `make run` wrote {RUN_FILE}"
            )
        own = {name: variables[name] for name in SECRET_VARIABLES if name in variables}
        variables = {**read_run_file(file), **own}
        variables.pop("DATABASE_URL", None)
    try:
        settings = CliSettings.model_validate(variables)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        missing = first["type"] == "missing"
        raise NotConfigured(f"{name} is not set" if missing else f"{name}: {first['msg']}") from None
    needed = settings.reconciler_database_url if reconciler else settings.database_url
    if not needed.get_secret_value():
        raise NotConfigured(f"{RECONCILER_VARIABLE if reconciler else DATABASE_VARIABLES[0]} is not set")
    return settings


def find_run_file(folder: Path) -> Path | None:
    """The nearest `.run/env`, in the folder or above it."""
    for candidate in (folder, *folder.parents):
        if (candidate / RUN_FILE).is_file():
            return candidate / RUN_FILE
    return None


def read_run_file(file: Path) -> dict[str, str]:
    """The variables of a file in shell syntax. It must be ours and nobody else's to read: it says where we connect to.

    Raises `NotConfigured`.
    """
    try:
        with file.open(encoding="utf-8") as opened:
            status = os.fstat(opened.fileno())
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
                raise NotConfigured(f"{file} must belong to you with mode 0600, or it is not read")
            words = shlex.split(opened.read(), comments=True)
    except (OSError, ValueError) as error:
        raise NotConfigured(f"{file} cannot be read ({type(error).__name__})") from None
    pairs = (word.partition("=") for word in words)
    return {name: value for name, separator, value in pairs if separator and value}
