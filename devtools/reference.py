"""Writes the reference pages that are read off the code: `python -m devtools.reference`, with `--check` only compares.

A setting is explained where it is declared, a metric where it is counted; a page written by hand would soon say something
else.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from devtools import definitions
from nexus_auth.tasks import Supervisor
from services.reconciler.operator.metrics import OperatorMetrics
from services.reconciler.operator.settings import OperatorSettings
from services.webhook.metrics import WebhookMetrics
from services.webhook.settings import WebhookSettings

SHARED = "Besides `process_*`, `python_*` and `nexus_auth_build_info`, whose labels are service and version:"

FOLDER = Path(__file__).parents[1] / "docs" / "reference"

WEBHOOK = """# The webhook service

`python -m services.webhook`, one process, as many replicas as you like. Written by `python -m devtools.reference` from
`services/webhook/settings.py` and `services/webhook/metrics.py`.

| port | path | answers |
|---|---|---|
| public | `POST /webhooks/clerk` | see the table in the README |
| health | `/livez` | 200 while the process runs |
| health | `/readyz` | 200 once the database was reached and claimed, and until it drains; a database that goes away later does not change it, else nobody is left to answer 503 |
| health | `/metrics` | Prometheus, text or OpenMetrics |

Exit codes: 0 after SIGTERM and a drain, 78 for a configuration that starting again will not mend: a setting is wrong, the
login has more rights than it needs, the server runs without fsync, the database belongs to another Clerk instance.

## How to see that an endpoint works

"Send Example" in Clerk's dashboard sends events of an instance that is nobody's. They are answered 403 and never stored, and
`nexus_auth_webhook_examples_total` rises: a request that came so far was signed with the right secret. What shows that events are
stored: change a user in the Clerk instance (its first name, say); `nexus_auth_webhook_received_total` rises and `nexus-auth inbox list` shows the event.
`nexus_auth_webhook_wrong_instance_total` is another matter: the endpoint of another real instance points here.

## What is bounded

An event is stored or answered 503 within `NEXUS_AUTH_ANSWER_WITHIN` seconds of its arrival, whatever the database does; it may be stored
after a 503, which is harmless. A connection must send the head of its first request within 10 s and a body within
`NEXUS_AUTH_BODY_TIMEOUT`; when unverified bodies fill `NEXUS_AUTH_MAX_READING_BYTES`, the one that has been read for the longest is given up.
Of warnings and errors with one text ten are logged a minute, then a line with their number (`left_out`).
A task of the service that ends is logged, counted in `nexus_auth_task_failures_total`, and begun again.

## Settings

From the environment. Of the secrets one of the two ways is needed, of `CLERK_INSTANCE_ID` and `CLERK_SECRET_KEY` at least one.
"""

EVERY_SERVICE = """
And what every service has: `nexus_auth_build_info` (service, version), `nexus_auth_task_running` and `nexus_auth_task_failures_total`
(task), `process_*` and `python_*`.
"""

OPERATOR = """# The operator

`python -m services.reconciler.operator`; of several replicas one leads, by a Lease. Written by `python -m devtools.reference` from
`services/reconciler/operator/settings.py` and `services/reconciler/operator/metrics.py`. The chart sets what it needs.

| path | answers |
|---|---|
| `/livez` | 200 while the process runs |
| `/readyz` | 200 while it leads and could list its objects, or waits for the Lease; otherwise 503 and why |
| `/metrics` | Prometheus, text or OpenMetrics |

Exit codes: 0 after SIGTERM, within 5 s and with the Lease given up; 78 where starting again will not help: a setting is wrong, there
is no API server, another release reconciles the same objects.

No task of the process ends unseen: one that does is logged with its trace, counted (`nexus_auth_task_failures_total`) and started
again. An error that nobody expected becomes the reason `InternalError`, an Event, a line with its trace in the log and a count
(`nexus_auth_internal_errors_total`), and is tried again with growing pauses.

An API key goes to the hosts of `NEXUS_AUTH_API_HOSTS` only, and of Secrets only those with the label
`nexus-auth.dev/readable: "true"` are read. A status tells nothing about other Secrets and nothing about why a connection failed: the
log has that as `detail`.

| Event | on | says |
|---|---|---|
| a reason of `Ready` | both kinds | it changed: [what to do](../kubernetes/troubleshooting.md) |
| `DriftDetected` | ClerkSync | what differs and was not repaired |
| `Repaired` | ClerkSync | what a sweep repaired and deleted |
| `Approved`, `ApprovalRefused` | ClerkSync | whose approval was taken, or why not |

## Settings

From the environment. A pod finds its service account in the usual place, or in the folder `NEXUS_AUTH_SERVICE_ACCOUNT_DIR`. Elsewhere
`KUBECONFIG` names the cluster.
"""


def webhook() -> str:
    """The webhook service's page."""
    return _page(WEBHOOK, WebhookSettings, WebhookMetrics) + EVERY_SERVICE


def operator() -> str:
    """The operator's page."""
    return _page(OPERATOR, OperatorSettings, OperatorMetrics)


def _page(head: str, settings: type[BaseSettings], metrics: Callable[[CollectorRegistry], object]) -> str:
    return f"{head}\n{_settings(settings)}\n\n## Metrics\n\n{SHARED}\n\n{_metrics(metrics)}\n"


def _settings(of: type[BaseSettings]) -> str:
    rows = ["| variable | default | |", "|---|---|---|"]
    for name, field in of.model_fields.items():
        variable = str(field.validation_alias or f"NEXUS_AUTH_{name}".upper())
        rows.append(f"| `{variable}` | {_default(field)} | {' '.join((field.description or '').split())} |")
    return "\n".join(rows)


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "required"
    if default is None or default == "" or isinstance(default, SecretStr):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _metrics(of: Callable[[CollectorRegistry], object]) -> str:
    registry = CollectorRegistry()
    made = (of(registry), Supervisor(registry))
    collectors = [each for metrics in made for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    labels = {collector._name: collector._labelnames for collector in collectors}
    rows = ["| metric | type | labels | |", "|---|---|---|---|"]
    for family in registry.collect():
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        names = ", ".join(labels.get(family.name, ()))
        rows.append(f"| `{name}` | {family.type} | {names} | {family.documentation} |")
    return "\n".join(rows)


def main() -> int:
    """Writes the pages, or with `--check` answers 1 where one is not what the code says."""
    pages = {"webhook.md": webhook(), "operator.md": operator(), "crds.md": definitions.page()}
    old = [name for name, text in pages.items() if not _says(FOLDER / name, text)]
    if "--check" in sys.argv[1:]:
        for name in old:
            print(f"{name} is out of date: python -m devtools.reference", file=sys.stderr)
        return 1 if old else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in old:
        (FOLDER / name).write_text(pages[name], "utf-8")
    return 0


def _says(path: Path, text: str) -> bool:
    return path.exists() and path.read_text("utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
