"""Settings shared by services: read once from the environment, checked, then handed to whoever needs them."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServiceSettings(BaseSettings):
    """What every service reads. Secrets are `SecretStr`: their repr is stars."""

    model_config = SettingsConfigDict(
        env_prefix="NEXUS_AUTH_", extra="ignore", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    database_url: SecretStr = Field(validation_alias="DATABASE_URL")
    """The service's own login, a member of its group only."""
    role_prefix: str = Field(default="clerk_", pattern=r"^[a-z][a-z0-9_]{0,30}$")
    """What our roles' names begin with; another one for each installation on a shared server."""
    clerk_api_url: str = Field(default="https://api.clerk.com", validation_alias="CLERK_API_URL")
    """Root of the Backend API, without /v1."""
    clerk_secret_key: SecretStr | None = Field(default=None, validation_alias="CLERK_SECRET_KEY")
    """API key; the webhook service asks with it which instance it serves, and nothing else."""
    clerk_instance_id: str | None = Field(default=None, validation_alias="CLERK_INSTANCE_ID", pattern=r"^ins_\w+$")
    """The instance that the database must belong to; asked of the API where it is not set."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""
    allow_fsync_off: bool = False
    """Tests only: run on a server that may lose what it committed."""
    failpoints_dir: Path | None = None
    """Tests only: see `nexus_auth.failpoints`."""
