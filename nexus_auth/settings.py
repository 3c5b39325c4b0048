"""Settings shared by services: read once from the environment, checked, then handed to whoever needs them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"],
    BeforeValidator(lambda value: value.strip().upper() if isinstance(value, str) else value),
]
"""A log level in whatever case it is written."""


class ServiceSettings(BaseSettings):
    """What every service reads. Secrets are `SecretStr`: their repr is stars."""

    model_config = SettingsConfigDict(
        env_prefix="NEXUS_AUTH_", extra="ignore", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    database_url: SecretStr = Field(default=SecretStr(""), validation_alias="DATABASE_URL")
    """The service's own login, a member of its group only."""
    database_url_file: Path | None = None
    """Or a file that holds it, as a mounted Secret; followed: a changed one is taken up without a restart."""
    role_prefix: str = Field(default="clerk_", pattern=r"^[a-z][a-z0-9_]{0,30}$")
    """What our roles' names begin with; another one for each installation on a shared server."""
    clerk_api_url: str = Field(default="https://api.clerk.com", validation_alias="CLERK_API_URL")
    """Root of the Backend API, without /v1."""
    clerk_secret_key: SecretStr | None = Field(default=None, validation_alias="CLERK_SECRET_KEY")
    """API key; the webhook service asks with it which instance it serves, and whether held deletions are true."""
    clerk_secret_key_file: Path | None = Field(default=None, validation_alias="CLERK_SECRET_KEY_FILE")
    """Or a file that holds it, read whenever the key is needed."""
    clerk_instance_id: str | None = Field(default=None, validation_alias="CLERK_INSTANCE_ID", pattern=r"^ins_\w+$")
    """The instance that the database must belong to; asked of the API where it is not set."""
    log_level: LogLevel = "INFO"
    """DEBUG, INFO, WARNING or ERROR, in any case."""
    allow_fsync_off: bool = False
    """Tests only: run on a server that may lose what it committed."""
    failpoints_dir: Path | None = None
    """Tests only: see `nexus_auth.failpoints`."""

    @model_validator(mode="after")
    def _reaches_a_database(self) -> "ServiceSettings":
        if not self.read_database_url():
            raise ValueError("set DATABASE_URL, or NEXUS_AUTH_DATABASE_URL_FILE to a file that holds it")
        return self

    def read_database_url(self) -> str:
        """The address as it is now. Raises OSError where its file cannot be read."""
        if self.database_url_file is not None:
            return self.database_url_file.read_text("utf-8").strip()
        return self.database_url.get_secret_value()

    def read_clerk_secret_key(self) -> str | None:
        """The API key as it is now, None where there is none. Raises OSError where its file cannot be read."""
        if self.clerk_secret_key_file is not None:
            return self.clerk_secret_key_file.read_text("utf-8").strip() or None
        return self.clerk_secret_key.get_secret_value() if self.clerk_secret_key is not None else None
