"""Settings that all services share."""

import pytest
from pydantic import TypeAdapter, ValidationError

from nexus_auth.settings import LogLevel
from services.reconciler.operator.settings import OperatorSettings
from services.reconciler.standalone.settings import StandaloneSettings
from services.webhook.settings import WebhookSettings


@pytest.mark.parametrize("level", ["info", "Info", " INFO "])
def test_a_log_level_is_read_in_any_case(level: str) -> None:
    assert TypeAdapter(LogLevel).validate_python(level) == "INFO"


@pytest.mark.parametrize("level", ["", "loud", "20", 20, None])
def test_what_is_no_log_level_is_refused(level: object) -> None:
    with pytest.raises(ValidationError, match="'DEBUG', 'INFO', 'WARNING' or 'ERROR'"):
        TypeAdapter(LogLevel).validate_python(level)


@pytest.mark.parametrize("settings", [WebhookSettings, StandaloneSettings, OperatorSettings])
def test_every_service_reads_its_log_level_so(settings: type, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "DATABASE_URL": "postgresql://x",
        "CLERK_WEBHOOK_SIGNING_SECRET": "x",
        "CLERK_INSTANCE_ID": "ins_1",
        "NEXUS_AUTH_WITHHOLD_KEY": "x" * 32,
        "NEXUS_AUTH_MANIFESTS": "x",
        "NEXUS_AUTH_SECRETS_DIR": "x",
        "NEXUS_AUTH_LOG_LEVEL": "warning",
    }.items():
        monkeypatch.setenv(name, value)
    assert settings().log_level == "WARNING"
