"""What a release consists of, in files: a change of the chart shows in review as what it changes for a cluster.

`python -m tests.kubernetes.chart.golden` writes them anew.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes.chart.rendering import merged, rendered

FOLDER = Path(__file__).with_name("rendered")
EVERYTHING: dict[str, Any] = {
    "networkPolicy": {"enabled": True},
    "clerkInstance": {"create": True},
    "clerkSync": {"create": True},
    "webhook": {
        "autoscaling": {"enabled": True},
        "ingress": {"enabled": True, "host": "a.example"},
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "gate"}]},
    },
    "metrics": {of: {"enabled": True, "renderMode": "alwaysRender"} for of in ("serviceMonitor", "podMonitor")},
}
SECRETS: dict[str, Any] = {
    "secrets": {"allowInValues": True},
    "clerk": {"apiKey": {"existingSecret": "", "value": "sk_test_1"}},
    "webhook": {
        "database": {"existingSecret": "", "url": "postgresql://w"},
        "signing": {"existingSecret": "", "secrets": ["whsec_a"]},
        "withhold": {"existingSecret": "", "value": "w" * 32},
    },
    "migrations": {"database": {"existingSecret": "", "url": "postgresql://o"}},
}
RELEASES: Mapping[str, Mapping[str, Any]] = {
    "as-it-comes": {},
    "everything-on": merged(EVERYTHING, SECRETS),
    "namespaced": {"watch": {"namespaces": ["one", "two"]}},
}


def release(name: str) -> str:
    """All objects but the CRDs, which the repository has, and those that are as in the first release."""
    first = [] if name == "as-it-comes" else rendered(RELEASES["as-it-comes"]).all
    crd = "CustomResourceDefinition"
    kept = [item for item in rendered(RELEASES[name]).all if item["kind"] != crd and item not in first]
    kept.sort(key=lambda item: (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]))
    return yaml.safe_dump_all(kept, sort_keys=True, width=120, allow_unicode=True)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each in RELEASES:
        (FOLDER / f"{each}.yaml").write_text(release(each), "utf-8")
