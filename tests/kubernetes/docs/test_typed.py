"""The pages as a person types them on `make cluster`: install, use, change a key, upgrade, uninstall.

One story, since each chapter stands on the one before.
"""

import json
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from devtools.postgres import execute, fetch
from tests.events import Signed, event, user
from tests.kubernetes.docs.typed import PersonsCluster, blocks, until

EXAMPLE = "user_2typed"
NEW_KEY = "whsec_dGhlLWtleS1hZnRlci10aGUtcm90YXRpb24taW4tdGhlLXRlc3Q="
CLEAR = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@pytest.mark.slow
def test_the_pages_can_be_typed_from_end_to_end(helm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    with PersonsCluster(folder) as cluster:
        install(cluster)
        the_mirror_is_in_step(cluster)
        an_event_becomes_a_row(cluster)
        a_changed_secret_is_followed(cluster)
        pods_are_as_kubectl_expects_them(cluster)
        people_have_a_login_of_their_own(cluster)
        upgrade_and_back(cluster)
        uninstall(cluster)
        api_server = cluster.said_by("kubectl config view --minify -o jsonpath='{.clusters[0].cluster.server}'")
    assert sorted(path.name for path in folder.iterdir()) == ["bin", "lock"]
    with pytest.raises(urllib.error.URLError, match="refused"):
        CLEAR.open(api_server, timeout=5)


def install(cluster: PersonsCluster) -> None:
    """Every block but the first, which holds what is everybody's own."""
    sections = ("1. Namespace and Secrets", "2. The chart", "3. An instance and a sync")
    own, *typed = [block for heading in sections for block in blocks("install.md", heading=heading)]
    assert "…" in own
    assert "…" not in "".join(typed)
    names = {line.partition("=")[0] for word in own.splitlines() for line in word.split() if "=" in line}
    assert names <= set(cluster.env), "make cluster gives what the page asks for"
    said = ""
    for block in typed:
        answer, failed = cluster.typed(block)
        assert failed in ([], ["1: kubectl nexus plan app"]), answer  # it says by 1 that there is something to do
        said += answer
    assert "condition met" in said
    assert "deletionGuard" in said, "kubectl explain"
    assert "Phase:          Succeeded" in said, "helm test"
    assert "InSync" in said, "kubectl nexus status"


def the_mirror_is_in_step(cluster: PersonsCluster) -> None:
    assert count(cluster, "clerk.users") == ask_clerk(cluster, "users/count")["total_count"] > 100


def ask_clerk(cluster: PersonsCluster, path: str, body: object = None) -> Any:
    """The emulator's API, as an application asks it."""
    request = urllib.request.Request(
        f"{cluster.address('Clerk')}v1/{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {cluster.env['CLERK_SECRET_KEY']}", "Content-Type": "application/json"},
    )
    with CLEAR.open(request, timeout=5) as answer:
        return json.load(answer)


def count(cluster: PersonsCluster, table: str, where: str = "true") -> int:
    return int(fetch(cluster.env["OWNER_DATABASE_URL"], f"select count(*) from {table} where {where}")[0][0])


def post(cluster: PersonsCluster, url: str, user_id: str, *, secret: str) -> int:
    """The answer to a signed event of a new user."""
    instance = cluster.said_by("kubectl get cinst production -o jsonpath='{.status.instanceId}'")
    signed = Signed(event("user.created", user(user_id), instance_id=instance))
    request = urllib.request.Request(url, data=signed.body, headers=signed.headers(secret=secret))
    try:
        with CLEAR.open(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def accepts(cluster: PersonsCluster, url: str, secret: str) -> bool:
    return post(cluster, url, EXAMPLE, secret=secret) == 204


def webhook_pods(cluster: PersonsCluster) -> list[str]:
    selector = "app.kubernetes.io/component=webhook"
    return cluster.said_by(f"kubectl get pods -l {selector} -o jsonpath='{{.items[*].status.podIP}}'").split()


def an_event_becomes_a_row(cluster: PersonsCluster) -> None:
    """At each pod's own address, by the address that stands for an Ingress, and all the way from Clerk."""
    first, second = webhook_pods(cluster)
    ways = (f"http://{first}:8080/webhooks/clerk", f"http://{second}:8080/webhooks/clerk", cluster.address("webhook"))
    for number, url in enumerate(ways):
        assert post(cluster, url, f"{EXAMPLE}{number}", secret=cluster.env["CLERK_SIGNING_SECRET"]) == 204
        assert count(cluster, "clerk.users", f"id = '{EXAMPLE}{number}'") == 1
    made = ask_clerk(cluster, "users", {"email_address": ["typed@example.com"], "skip_password_requirement": True})
    until(lambda: count(cluster, "clerk.users", f"id = '{made['id']}'") == 1, what="Clerk's own event")


def a_changed_secret_is_followed(cluster: PersonsCluster) -> None:
    """Without a restart, by every pod."""
    pods = webhook_pods(cluster)
    new = json.dumps({"stringData": {"second": NEW_KEY}})
    cluster.said_by(f"kubectl patch secret webhook-signing --patch '{new}'")
    for pod in pods:
        url = f"http://{pod}:8080/webhooks/clerk"
        until(partial(accepts, cluster, url, NEW_KEY), what="the new key is accepted")
    assert webhook_pods(cluster) == pods
    restarts = cluster.said_by("kubectl get pods -o jsonpath='{.items[*].status.containerStatuses[*].restartCount}'")
    assert set(restarts.split()) == {"0"}


def pods_are_as_kubectl_expects_them(cluster: PersonsCluster) -> None:
    first_look, *_ = blocks("troubleshooting.md")
    assert '"message": "run"' in cluster.said_by(first_look)
    assert '"message": "ready"' in cluster.said_by("kubectl nexus logs --component webhook")
    assert len(cluster.said_by("kubectl logs deployment/nexus-auth-operator --tail 1").splitlines()) == 2
    said, failed = cluster.typed("kubectl exec deployment/nexus-auth-webhook -- true")
    assert failed
    assert "serves logs and nothing else" in said
    cluster.said_by("kubectl create deployment --namespace default other --image registry.example/nginx:1")
    cluster.until("kubectl get events --namespace default", "processes of this checkout, not containers")
    assert cluster.said_by("kubectl get pods --namespace default -o jsonpath='{.items[*].status.phase}'") == "Pending"
    before = webhook_pods(cluster)
    cluster.said_by("kubectl delete pod -l app.kubernetes.io/component=webhook")
    cluster.said_by("kubectl rollout status deployment/nexus-auth-webhook --timeout=50s")
    assert not set(webhook_pods(cluster)) & set(before)


def people_have_a_login_of_their_own(cluster: PersonsCluster) -> None:
    (block,) = blocks("troubleshooting.md", heading="`nexus-auth` beside a cluster")
    assert "ins_" in cluster.said_by(block)
    gone = "revoke connect on database app from clerk_cli_login; drop role clerk_cli_login"
    execute(cluster.env["OWNER_DATABASE_URL"], gone)


def upgrade_and_back(cluster: PersonsCluster) -> None:
    upgrade, rollback, _ = blocks("upgrade.md")
    assert "STATUS: deployed" in cluster.said_by(upgrade)
    assert "Rollback was a success" in cluster.said_by(rollback)
    assert '"revision":"3"' in cluster.said_by("helm list -o json")


def uninstall(cluster: PersonsCluster) -> None:
    rows = count(cluster, "clerk.users")
    leave, everything = blocks("uninstall.md")
    cluster.said_by(leave)
    assert cluster.said_by("kubectl get deployments,services,jobs,roles -o name") == ""
    cluster.until("kubectl get pods", "No resources found")
    assert cluster.said_by("kubectl get csync,cinst -o name").split() == [
        "clerksync.nexus-auth.dev/app",
        "clerkinstance.nexus-auth.dev/production",
    ]
    assert len(cluster.said_by("kubectl get secrets -o name").split()) == 6
    assert count(cluster, "clerk.users") == rows
    cluster.said_by(everything)
    assert cluster.said_by("kubectl get crds,secrets -o name") == ""
    (statements,) = blocks("uninstall.md", language="sql")
    execute(cluster.env["OWNER_DATABASE_URL"], statements)
    assert count(cluster, "pg_roles", "rolname like 'clerk%login'") == 0
