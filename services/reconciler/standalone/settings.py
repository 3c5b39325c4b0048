"""Settings of the standalone reconciler."""

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from nexus_auth.clerk.api_hosts import CLERK, ApiHosts
from nexus_auth.settings import LogLevel


class StandaloneSettings(BaseSettings):
    """Environment names are the fields' with NEXUS_AUTH_ before them."""

    model_config = SettingsConfigDict(
        env_prefix="NEXUS_AUTH_", extra="ignore", hide_input_in_errors=True, use_attribute_docstrings=True
    )

    manifests: Path
    """YAML file with ClerkInstance and ClerkSync documents; taken over when it changes."""
    secrets_dir: Path
    """Folder of the Secrets that they name: `<name>/<key>`, as a cluster would mount them; read at every run."""
    api_hosts: str = CLERK
    """Hosts that an API key may be sent to, separated by commas: host, host:port (https; a loopback host http as well)
    or http://host:port."""
    role_prefix: str = Field(default="clerk_", pattern=r"^[a-z][a-z0-9_]{0,30}$")
    """What our roles' names begin with."""
    health_host: str = "127.0.0.1"
    """Where /livez, /readyz and /metrics listen."""
    health_port: int = 9091
    """Their port."""
    look_seconds: float = Field(default=1.0, gt=0)
    """Pause between two looks at what is due."""
    verify_after: float = Field(default=60.0, ge=0)
    """Seconds between the two reads that bury, revive or lower, and before the first one of a tombstone."""
    keep_runs_days: float = Field(default=90.0, gt=0)
    """Runs and findings that ended longer ago are removed, but not what waits for a human."""
    log_level: LogLevel = "INFO"
    """DEBUG, INFO, WARNING or ERROR, in any case."""
    allow_fsync_off: bool = False
    """Tests only."""
    failpoints_dir: Path | None = None
    """Tests only: see `nexus_auth.failpoints`."""

    @field_validator("api_hosts")
    @classmethod
    def _lists_hosts(cls, value: str) -> str:
        ApiHosts.parse(value)
        return value
