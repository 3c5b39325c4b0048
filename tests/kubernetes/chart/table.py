"""For every documented value: another one, and where in the release it must be found again.

`test_values.py` holds the table to values.yaml: a value that is not here is a value without a test.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

AS_GIVEN = object()
GONE = object()
"""The object is not there."""
ABSENT = object()
"""The object is there without it."""


@dataclass(frozen=True)
class Row:
    """`value` must show as `shows` at `where` (see `Objects.at`), with `given` set beside it."""

    value: Any
    where: str
    shows: Any = AS_GIVEN
    given: Mapping[str, Any] = field(default_factory=dict)
    apis: tuple[str, ...] = ()


POD = "spec/template/spec"
WEBHOOK, OPERATOR, JOB = "Deployment/webhook", "Deployment/operator", "Job/migrations"
HOOK = "metadata/annotations/helm.sh~1hook"
MONITORING = ("monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PodMonitor")
INLINE = {"secrets": {"allowInValues": True}}
MAKES_LOGINS = {"migrations": {"logins": {"create": True}}}
LOGINS = f"{JOB}:{POD}/volumes/name=logins/projected/sources"
NO_KEY = {"clerk": {"apiKey": {"existingSecret": ""}}}


def env(workload: str, name: str) -> str:
    """Where an environment variable of a workload's container is."""
    return f"{workload}:{POD}/containers/0/env/name={name}/value"


def volume(workload: str, name: str, rest: str) -> str:
    """Where a volume of a workload is."""
    return f"{workload}:{POD}/volumes/name={name}/secret/{rest}"


def resources(memory: str) -> dict[str, Any]:
    """Requests and limits."""
    return {"requests": {"cpu": "7m", "memory": memory}, "limits": {"memory": memory}}


def for_pods(prefix: str, workload: str) -> dict[str, Row]:
    """What every workload has."""
    extra = {"name": "more", "emptyDir": {}}
    return {
        f"{prefix}.nodeSelector": Row({"disk": "fast"}, f"{workload}:{POD}/nodeSelector"),
        f"{prefix}.tolerations": Row([{"key": "auth", "operator": "Exists"}], f"{workload}:{POD}/tolerations"),
        f"{prefix}.priorityClassName": Row("high", f"{workload}:{POD}/priorityClassName"),
        f"{prefix}.podLabels": Row({"team": "auth"}, f"{workload}:spec/template/metadata/labels/team", "auth"),
        f"{prefix}.podAnnotations": Row({"note": "x"}, f"{workload}:spec/template/metadata/annotations/note", "x"),
        f"{prefix}.extraEnv": Row([{"name": "PGSSLMODE", "value": "require"}], env(workload, "PGSSLMODE"), "require"),
        f"{prefix}.extraVolumes": Row([extra], f"{workload}:{POD}/volumes/name=more", extra),
        f"{prefix}.extraVolumeMounts": Row(
            [{"name": "more", "mountPath": "/more"}],
            f"{workload}:{POD}/containers/0/volumeMounts/name=more/mountPath",
            "/more",
        ),
        f"{prefix}.resources": Row(resources("99Mi"), f"{workload}:{POD}/containers/0/resources"),
    }


def for_services(prefix: str, workload: str) -> dict[str, Row]:
    """What the Deployments have besides."""
    component = workload.partition("/")[2]
    container = f"{workload}:{POD}/containers/0"
    spread = [{"maxSkew": 3, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}]
    account = f"ServiceAccount/{component}"
    return {
        **for_pods(prefix, workload),
        f"{prefix}.enabled": Row(False, workload, GONE),
        f"{prefix}.replicas": Row(5, f"{workload}:spec/replicas"),
        f"{prefix}.logLevel": Row("DEBUG", env(workload, "NEXUS_AUTH_LOG_LEVEL")),
        f"{prefix}.terminationGracePeriodSeconds": Row(77, f"{workload}:{POD}/terminationGracePeriodSeconds"),
        f"{prefix}.revisionHistoryLimit": Row(2, f"{workload}:spec/revisionHistoryLimit"),
        f"{prefix}.strategy": Row(
            {"rollingUpdate": {"maxSurge": "50%"}}, f"{workload}:spec/strategy/rollingUpdate/maxSurge", "50%"
        ),
        f"{prefix}.podDisruptionBudget.enabled": Row(False, f"PodDisruptionBudget/{component}", GONE),
        f"{prefix}.podDisruptionBudget.minAvailable": Row("60%", f"PodDisruptionBudget/{component}:spec/minAvailable"),
        f"{prefix}.topologySpreadConstraints": Row(
            spread, f"{workload}:{POD}/topologySpreadConstraints/0/topologyKey", "rack"
        ),
        f"{prefix}.affinity": Row({"podAntiAffinity": {}}, f"{workload}:{POD}/affinity"),
        f"{prefix}.serviceAccount.create": Row(False, account, GONE),
        f"{prefix}.serviceAccount.name": Row("mine", f"{workload}:{POD}/serviceAccountName"),
        f"{prefix}.serviceAccount.annotations": Row({"role": "x"}, f"{account}:metadata/annotations/role", "x"),
        f"{prefix}.probes.liveness": Row({"periodSeconds": 33}, f"{container}/livenessProbe/periodSeconds", 33),
        f"{prefix}.probes.readiness": Row({"periodSeconds": 34}, f"{container}/readinessProbe/periodSeconds", 34),
        f"{prefix}.probes.startup": Row({"periodSeconds": 35}, f"{container}/startupProbe/periodSeconds", 35),
    }


def monitor(prefix: str, kind: str, name: str, endpoints: str) -> dict[str, Row]:
    """A ServiceMonitor or PodMonitor."""
    on = {"metrics": {prefix: {"enabled": True}}}
    where = f"{kind}/{name}"
    relabeling = [{"action": "drop", "regex": "x"}]
    return {
        f"metrics.{prefix}.enabled": Row(True, f"{where}:spec/{endpoints}/0/port", "health", {}, MONITORING),
        f"metrics.{prefix}.renderMode": Row("alwaysRender", f"{where}:spec/{endpoints}/0/path", "/metrics", on),
        f"metrics.{prefix}.interval": Row("11s", f"{where}:spec/{endpoints}/0/interval", AS_GIVEN, on, MONITORING),
        f"metrics.{prefix}.scrapeTimeout": Row(
            "3s", f"{where}:spec/{endpoints}/0/scrapeTimeout", AS_GIVEN, on, MONITORING
        ),
        f"metrics.{prefix}.labels": Row({"by": "me"}, f"{where}:metadata/labels/by", "me", on, MONITORING),
        f"metrics.{prefix}.metricRelabelings": Row(
            relabeling, f"{where}:spec/{endpoints}/0/metricRelabelings", AS_GIVEN, on, MONITORING
        ),
    }


SCALED = {"webhook": {"autoscaling": {"enabled": True}}}
HPA = "HorizontalPodAutoscaler/webhook"
INGRESS = {"webhook": {"ingress": {"enabled": True, "host": "auth.example.com"}}}
ROUTE = {"webhook": {"httpRoute": {"enabled": True, "parentRefs": [{"name": "gate"}]}}}
POLICIES = {"networkPolicy": {"enabled": True}}
INSTANCE = {"clerkInstance": {"create": True}}
SYNC = {"clerkSync": {"create": True}}
SOME = [{"podSelector": {"matchLabels": {"a": "b"}}}]
DIGEST = "sha256:" + "a" * 64
CRD = "CustomResourceDefinition/clerksyncs.nexus-auth.dev"

TABLE: dict[str, Row] = {
    "nameOverride": Row("other", "Deployment/rel-other-webhook:metadata/labels/app.kubernetes.io~1name"),
    "fullnameOverride": Row("whole", "Deployment/whole-webhook:metadata/name", "whole-webhook"),
    "commonLabels": Row({"all": "x"}, "Service/webhook:metadata/labels/all", "x"),
    "commonAnnotations": Row({"all": "y"}, "Service/webhook:metadata/annotations/all", "y"),
    "image.repository": Row("host.example/auth", f"{WEBHOOK}:{POD}/containers/0/image", "host.example/auth:0.1.0"),
    "image.tag": Row("9", f"{OPERATOR}:{POD}/containers/0/image", "nexus-auth:9"),
    "image.digest": Row(DIGEST, f"{JOB}:{POD}/containers/0/image", f"nexus-auth:0.1.0@{DIGEST}"),
    "image.pullPolicy": Row("Always", f"{WEBHOOK}:{POD}/containers/0/imagePullPolicy"),
    "imagePullSecrets": Row([{"name": "pull"}], f"{JOB}:{POD}/imagePullSecrets"),
    "crds.enabled": Row(False, CRD, GONE),
    "crds.keep": Row(False, f"{CRD}:metadata/annotations/helm.sh~1resource-policy", ABSENT),
    "crds.annotations": Row({"n": "1"}, f"{CRD}:metadata/annotations/n", "1"),
    "rolePrefix": Row("other_", env(JOB, "NEXUS_AUTH_ROLE_PREFIX")),
    "bindAddress": Row("::", env(WEBHOOK, "NEXUS_AUTH_HOST")),
    "secrets.allowInValues": Row(
        True,
        "Secret/webhook-database:stringData/url",
        "postgresql://w",
        {"webhook": {"database": {"existingSecret": "", "url": "postgresql://w"}}},
    ),
    "clerk.instanceId": Row("ins_other", env(WEBHOOK, "CLERK_INSTANCE_ID")),
    "clerk.apiUrl": Row("https://clerk.example", env(WEBHOOK, "CLERK_API_URL")),
    "clerk.apiKey.existingSecret": Row("key", volume(WEBHOOK, "clerk", "secretName")),
    "clerk.apiKey.key": Row("k", volume(WEBHOOK, "clerk", "items/0/key")),
    "clerk.apiKey.value": Row("sk_test_1", "Secret/api-key:stringData/secret-key", AS_GIVEN, {**INLINE, **NO_KEY}),
    "watch.namespaces": Row(["one", "two"], env(OPERATOR, "NEXUS_AUTH_WATCH_NAMESPACES"), "one,two"),
    "rbac.create": Row(False, "ClusterRole/operator", GONE),
    "rbac.secretNames": Row(
        ["clerk", "database"],
        "ClusterRole/operator:rules/2",
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["clerk", "database"], "verbs": ["list"]},
    ),
    "rbac.aggregate": Row(False, "ClusterRole/view", GONE),
    "openshift.adaptSecurityContext": Row(
        "force",
        f"{WEBHOOK}:{POD}/securityContext",
        {"runAsNonRoot": True, "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}},
    ),
    "podSecurityContext": Row({"runAsUser": 5}, f"{JOB}:{POD}/securityContext/runAsUser", 5),
    "securityContext": Row({"x": 1}, f"{OPERATOR}:{POD}/containers/0/securityContext/x", 1),
    **for_services("webhook", WEBHOOK),
    "webhook.database.existingSecret": Row("db", volume(WEBHOOK, "database", "secretName")),
    "webhook.database.key": Row("uri", volume(WEBHOOK, "database", "items/0/key")),
    "webhook.database.url": Row(
        "postgresql://x",
        "Secret/webhook-database:stringData/url",
        AS_GIVEN,
        {**INLINE, "webhook": {"database": {"existingSecret": ""}}},
    ),
    "webhook.signing.existingSecret": Row("sig", volume(WEBHOOK, "signing", "secretName")),
    "webhook.signing.secrets": Row(
        ["whsec_a", "whsec_b"],
        "Secret/webhook-signing:stringData/secrets",
        "whsec_a\nwhsec_b",
        {**INLINE, "webhook": {"signing": {"existingSecret": ""}}},
    ),
    "webhook.withhold.existingSecret": Row("hold", volume(WEBHOOK, "withhold", "secretName")),
    "webhook.withhold.key": Row("hmac", volume(WEBHOOK, "withhold", "items/0/key")),
    "webhook.withhold.value": Row(
        "w" * 32,
        "Secret/webhook-withhold:stringData/withhold-key",
        AS_GIVEN,
        {**INLINE, "webhook": {"withhold": {"existingSecret": ""}}},
    ),
    "webhook.lanes": Row(4, env(WEBHOOK, "NEXUS_AUTH_LANES"), "4"),
    "webhook.batchRows": Row(1000, env(WEBHOOK, "NEXUS_AUTH_BATCH_ROWS"), "1000"),
    "webhook.queueRows": Row(1_000_000, env(WEBHOOK, "NEXUS_AUTH_QUEUE_ROWS"), "1000000"),
    "webhook.keepEventAttributes": Row(True, env(WEBHOOK, "NEXUS_AUTH_KEEP_EVENT_ATTRIBUTES"), "true"),
    "webhook.preStopSeconds": Row(9, f"{WEBHOOK}:{POD}/containers/0/lifecycle/preStop/sleep/seconds"),
    "webhook.drainSeconds": Row(7, env(WEBHOOK, "NEXUS_AUTH_DRAIN_TIMEOUT"), "7"),
    "webhook.autoscaling.enabled": Row(True, f"{HPA}:spec/scaleTargetRef/name", "rel-nexus-auth-webhook"),
    "webhook.autoscaling.minReplicas": Row(3, f"{HPA}:spec/minReplicas", AS_GIVEN, SCALED),
    "webhook.autoscaling.maxReplicas": Row(9, f"{HPA}:spec/maxReplicas", AS_GIVEN, SCALED),
    "webhook.autoscaling.targetCPUUtilizationPercentage": Row(
        55, f"{HPA}:spec/metrics/0/resource/target/averageUtilization", AS_GIVEN, SCALED
    ),
    "webhook.autoscaling.behavior": Row({"scaleDown": {}}, f"{HPA}:spec/behavior", AS_GIVEN, SCALED),
    "webhook.service.type": Row("LoadBalancer", "Service/webhook:spec/type"),
    "webhook.service.port": Row(8443, "Service/webhook:spec/ports/0/port"),
    "webhook.service.nodePort": Row(
        30_080, "Service/webhook:spec/ports/0/nodePort", AS_GIVEN, {"webhook": {"service": {"type": "NodePort"}}}
    ),
    "webhook.service.annotations": Row({"lb": "x"}, "Service/webhook:metadata/annotations/lb", "x"),
    "webhook.service.trafficDistribution": Row("PreferClose", "Service/webhook:spec/trafficDistribution"),
    "webhook.ingress.enabled": Row(
        True,
        "Ingress/webhook:spec/rules/0/http/paths/0/path",
        "/webhooks/clerk",
        {"webhook": {"ingress": {"host": "a.example"}}},
    ),
    "webhook.ingress.className": Row("nginx", "Ingress/webhook:spec/ingressClassName", AS_GIVEN, INGRESS),
    "webhook.ingress.annotations": Row({"i": "1"}, "Ingress/webhook:metadata/annotations/i", "1", INGRESS),
    "webhook.ingress.host": Row("b.example", "Ingress/webhook:spec/rules/0/host", AS_GIVEN, INGRESS),
    "webhook.ingress.tls": Row([{"hosts": ["b"], "secretName": "t"}], "Ingress/webhook:spec/tls", AS_GIVEN, INGRESS),
    "webhook.httpRoute.enabled": Row(
        True,
        "HTTPRoute/webhook:spec/rules/0/matches/0/method",
        "POST",
        {"webhook": {"httpRoute": {"parentRefs": [{"name": "g"}]}}},
    ),
    "webhook.httpRoute.parentRefs": Row([{"name": "h"}], "HTTPRoute/webhook:spec/parentRefs", AS_GIVEN, ROUTE),
    "webhook.httpRoute.hostnames": Row(["c.example"], "HTTPRoute/webhook:spec/hostnames", AS_GIVEN, ROUTE),
    "webhook.httpRoute.annotations": Row({"r": "1"}, "HTTPRoute/webhook:metadata/annotations/r", "1", ROUTE),
    **for_services("operator", OPERATOR),
    "operator.apiHosts": Row(
        ["api.clerk.com", "proxy.example:8443"],
        env(OPERATOR, "NEXUS_AUTH_API_HOSTS"),
        "api.clerk.com,proxy.example:8443",
    ),
    "operator.controllerClass": Row("blue", env(OPERATOR, "NEXUS_AUTH_CONTROLLER_CLASS")),
    "operator.concurrency": Row(9, env(OPERATOR, "NEXUS_AUTH_CONCURRENCY"), "9"),
    "operator.leaseSeconds": Row(30, env(OPERATOR, "NEXUS_AUTH_LEASE_SECONDS"), "30"),
    "operator.lookSeconds": Row(5, env(OPERATOR, "NEXUS_AUTH_LOOK_SECONDS"), "5"),
    "operator.verifyAfterSeconds": Row(90, env(OPERATOR, "NEXUS_AUTH_VERIFY_AFTER"), "90"),
    **for_pods("migrations", JOB),
    "migrations.enabled": Row(False, JOB, GONE),
    "migrations.database.existingSecret": Row("owner", volume(JOB, "database", "secretName")),
    "migrations.database.key": Row("dsn", volume(JOB, "database", "items/0/key")),
    "migrations.database.url": Row(
        "postgresql://o",
        "Secret/migrations-database:stringData/url",
        AS_GIVEN,
        {**INLINE, "migrations": {"database": {"existingSecret": ""}}},
    ),
    "migrations.logins.create": Row(True, f"{JOB}:{POD}/containers/0/command/4", "--logins-from"),
    "migrations.logins.reconciler.existingSecret": Row("database", f"{LOGINS}/1/secret/name", AS_GIVEN, MAKES_LOGINS),
    "migrations.logins.reconciler.key": Row(
        "dsn",
        f"{LOGINS}/1/secret/items/0",
        {"key": "dsn", "path": "reconciler"},
        {"migrations": {"logins": {"create": True, "reconciler": {"existingSecret": "database"}}}},
    ),
    "migrations.logins.cli.existingSecret": Row("people", f"{LOGINS}/1/secret/name", AS_GIVEN, MAKES_LOGINS),
    "migrations.logins.cli.key": Row(
        "dsn",
        f"{LOGINS}/1/secret/items/0",
        {"key": "dsn", "path": "cli"},
        {"migrations": {"logins": {"create": True, "cli": {"existingSecret": "people"}}}},
    ),
    "migrations.waitSeconds": Row(5, f"{JOB}:{POD}/containers/0/command/3", "5"),
    "migrations.backoffLimit": Row(0, f"{JOB}:spec/backoffLimit"),
    "migrations.activeDeadlineSeconds": Row(60, f"{JOB}:spec/activeDeadlineSeconds"),
    "migrations.serviceAccountName": Row("plain", f"{JOB}:{POD}/serviceAccountName"),
    "clerkInstance.create": Row(True, f"ClerkInstance/rel-nexus-auth:{HOOK}", "post-install,post-upgrade"),
    "clerkInstance.name": Row("main", "ClerkInstance/main:metadata/name", AS_GIVEN, INSTANCE),
    "clerkInstance.spec": Row(
        {"budgetPercent": 20},
        "ClerkInstance/rel-nexus-auth:spec",
        {
            "budgetPercent": 20,
            "instanceId": "ins_2abc",
            "apiUrl": "https://api.clerk.com",
            "secretKeyRef": {"name": "clerk", "key": "secret-key"},
        },
        INSTANCE,
    ),
    "clerkSync.create": Row(True, f"ClerkSync/rel-nexus-auth:{HOOK}", "post-install,post-upgrade"),
    "clerkSync.name": Row("app", "ClerkSync/app:metadata/name", AS_GIVEN, SYNC),
    "clerkSync.spec": Row(
        {"interval": "5m"},
        "ClerkSync/rel-nexus-auth:spec",
        {"interval": "5m", "instanceRef": {"name": "rel-nexus-auth"}, "controllerClass": "blue"},
        {**SYNC, "operator": {"controllerClass": "blue"}},
    ),
    **monitor("serviceMonitor", "ServiceMonitor", "webhook", "endpoints"),
    **monitor("podMonitor", "PodMonitor", "operator", "podMetricsEndpoints"),
    "networkPolicy.enabled": Row(True, "NetworkPolicy/webhook:spec/policyTypes", ["Ingress", "Egress"]),
    "networkPolicy.databasePorts": Row([6432], "NetworkPolicy/migrations:spec/egress/1/ports/0/port", 6432, POLICIES),
    "networkPolicy.clerkPorts": Row([8443], "NetworkPolicy/webhook:spec/egress/1/ports/1/port", 8443, POLICIES),
    "networkPolicy.apiServerPorts": Row([6000], "NetworkPolicy/operator:spec/egress/1/ports/2/port", 6000, POLICIES),
    "networkPolicy.webhookFrom": Row(SOME, "NetworkPolicy/webhook:spec/ingress/0/from", AS_GIVEN, POLICIES),
    "networkPolicy.metricsFrom": Row(SOME, "NetworkPolicy/operator:spec/ingress/0/from", AS_GIVEN, POLICIES),
    "networkPolicy.extraEgress": Row([{"to": SOME}], "NetworkPolicy/operator:spec/egress/2/to", SOME, POLICIES),
    "test.enabled": Row(False, "Pod/test", GONE),
    "test.resources": Row(resources("44Mi"), "Pod/test:spec/containers/0/resources"),
    "extraObjects": Row(
        [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}}],
        "ConfigMap/rel-more:metadata/name",
        "rel-more",
    ),
}
