"""The list's second part: what the operator, the chart, the definitions and `kubectl nexus` promise.

Their tests start a real API server, so these faults take longer than those of the engine.
"""

from devtools.mutants.fault import Fault

COUNTS = "tests/reconcile/test_counts.py::test_"
LEASE = "tests/kubernetes/operator/test_lease.py::test_"
LEASE_UNIT = "tests/unit/test_operator_lease.py::test_"
BAD_INPUT = "tests/kubernetes/operator/test_bad_input.py::test_"
CONSENT = "tests/kubernetes/operator/test_consent.py::test_"
TASKS = "tests/kubernetes/operator/test_tasks.py::test_"
APPROVALS = "tests/kubernetes/operator/test_approvals.py::test_"
INSTALL = "tests/kubernetes/chart/test_install.py::test_"
SECURITY = "tests/kubernetes/chart/test_security.py::test_"
VALUES = "tests/kubernetes/chart/test_values.py::test_"
RULES = "tests/kubernetes/crds/test_rules.py::test_"

FAULTS: tuple[Fault, ...] = (
    Fault(
        "a candidate takes a Lease that is held",
        "one leader",
        "services/reconciler/operator/lease.py",
        "        if not mine and spec is not None and spec.holder_identity and not self._stood_still(found):\n",
        "        if False:\n",
        (f"{LEASE_UNIT}a_holder_that_goes_on_renewing_is_waited_for_anew",),
    ),
    Fault(
        "a leader believes in its Lease for ever",
        "one leader",
        "services/reconciler/operator/lease.py",
        "        return self._now() < self._until\n",
        "        return self._until > 0.0\n",
        (f"{LEASE_UNIT}who_cannot_renew_leads_no_more_well_before_another_may",),
    ),
    Fault(
        "a Lease is kept at the end",
        "one leader",
        "services/reconciler/operator/lease.py",
        '                    found.spec.holder_identity = ""\n',
        "",
        (f"{LEASE}a_leader_that_ends_gives_the_lease_up_at_once",),
    ),
    Fault(
        "another release on the same objects is not looked for",
        "one leader",
        "services/reconciler/operator/lease.py",
        "        await self._refuse_another_release()\n        lost",
        "        lost",
        (
            f"{LEASE}a_second_release_of_the_same_class_refuses_to_start",
            f"{LEASE}a_second_cluster_wide_release_is_found_in_another_namespace",
        ),
    ),
    Fault(
        "a watch whose thread ended is not noticed",
        "level-based",
        "services/reconciler/operator/watch.py",
        "        self._call(_settle, ended, error)\n",
        "",
        ("tests/kubernetes/operator/test_tasks.py::test_a_watch_whose_thread_ends_is_begun_again",),
    ),
    Fault(
        "the API key goes to any host",
        "who may do what",
        "nexus_auth/clerk/api_hosts.py",
        '        if _Origin(match["scheme"], host, port) in self.origins:\n',
        "        if True:\n",
        ("tests/unit/test_operator_api_hosts.py::test_every_other_address_is_refused",),
        row="S1",
    ),
    Fault(
        "a Secret without the label is read",
        "who may do what",
        "services/reconciler/operator/cluster.py",
        ", label_selector=READABLE_SELECTOR, limit=1",
        ", limit=1",
        (f"{CONSENT}a_secret_that_is_missing_or_does_not_consent_reads_the_same_and_is_taken_up_once_labelled",),
        row="S2",
    ),
    Fault(
        "a status says why a connection failed",
        "who may do what",
        "services/reconciler/leading.py",
        'return Trouble("DatabaseUnavailable", what, about="database", detail=',
        'return Trouble("DatabaseUnavailable", f"{what} {error}", about="database", detail=',
        ("tests/unit/test_operator_status.py::test_every_way_in_which_a_connection_fails_reads_the_same_in_a_status",),
        row="S13",
    ),
    Fault(
        "an error that no reconciler expected is in the log alone",
        "no run ends unseen",
        "services/reconciler/operator/worker.py",
        "            await self._fail(tracked, trouble_of(error))\n",
        "            trouble_of(error)\n",
        (f"{TASKS}a_status_that_cannot_be_made_is_counted_and_tried_again",),
        row="R3",
    ),
    Fault(
        "the watch's thread ends unseen",
        "no run ends unseen",
        "services/reconciler/operator/watch.py",
        "        self._call(_settle, ended, error)\n",
        "",
        (f"{TASKS}a_watch_whose_thread_ends_is_begun_again",),
        row="R3",
    ),
    Fault(
        "an approval counts for another sync's run",
        "5 no mass deletion",
        "services/reconciler/leading.py",
        'if of is None or of["sync"] != self.sync.name:',
        "if of is None:",
        (f"{APPROVALS}an_approval_of_another_syncs_run_is_refused",),
    ),
    Fault(
        "the operator deletes where the policy is Report",
        "5 no mass deletion",
        "services/reconciler/leading.py",
        '        if self.sync.policy.drift != "Fix":\n',
        "        if False:\n",
        (f"{APPROVALS}an_approval_under_a_policy_of_reports_is_refused",),
    ),
    Fault(
        "a login is not judged by the operator",
        "least privilege",
        "services/reconciler/leading.py",
        "    await refuse_unsafe(\n",
        "    await (lambda *a, **k: __import__('asyncio').sleep(0))(\n",
        (f"{BAD_INPUT}a_login_that_may_do_too_much",),
    ),
    Fault(
        "the webhook stops before its endpoint is gone",
        "3 nothing acknowledged is lost",
        "deploy/helm/nexus-auth/templates/webhook/deployment.yaml",
        "          {{- if $values.preStopSeconds }}\n",
        "          {{- if false }}\n",
        (f"{VALUES}a_value_is_found_again_in_the_release[webhook.preStopSeconds]",),
    ),
    Fault(
        "a namespaced operator reads Secrets everywhere",
        "least privilege",
        "deploy/helm/nexus-auth/templates/operator/rbac.yaml",
        "{{- if .Values.watch.namespaces }}\n",
        "{{- if false }}\n",
        (
            f"{INSTALL}a_namespaced_operator_reads_secrets_in_its_namespaces_only",
            f"{SECURITY}a_namespaced_operator_has_roles_in_these_namespaces_only",
        ),
    ),
    Fault(
        "the operator may write specs",
        "least privilege",
        "deploy/helm/nexus-auth/templates/operator/rbac.yaml",
        "  resources: [clerkinstances, clerksyncs]\n  verbs: [get, list, watch]\n",
        "  resources: [clerkinstances, clerksyncs]\n  verbs: [get, list, watch, patch]\n",
        (f"{SECURITY}a_cluster_wide_operator_reads_everywhere_and_writes_status_only",),
    ),
    Fault(
        "an instance changes under its database",
        "instance guard",
        "crds/clerkinstance.yaml",
        "!has(oldSelf.instanceId) || (has(self.instanceId) && self.instanceId == oldSelf.instanceId)",
        "true",
        (f"{RULES}an_instance_id_is_for_good_once_it_is_set",),
    ),
    Fault(
        "a report holds the Secrets' values",
        "secrets",
        "services/cli/kubernetes/redaction.py",
        "            text = text.replace(value, LEFT_OUT)\n",
        "            pass\n",
        ("tests/kubernetes/cli/test_report.py::test_no_planted_secret_is_in_any_file",),
    ),
    Fault(
        "two counts in a row are a difference",
        "counts",
        "nexus_auth/store/counts_note.sql",
        "make_interval(secs => $5)",
        "make_interval(secs => 0 * $5)",
        (f"{COUNTS}two_checks_stand_apart_by_the_databases_clock",),
    ),
    Fault(
        "an event between two counts does not matter",
        "counts",
        "nexus_auth/store/counts_note.sql",
        "            and c.inbox_mark is not distinct from excluded.inbox_mark then",
        "            then",
        (f"{COUNTS}an_event_between_two_checks_begins_anew",),
    ),
    Fault(
        "what a report left standing is found for ever",
        "counts",
        "nexus_auth/store/counts_note.sql",
        "case when $3 <> 0 and $6::boolean then $3 end as left_standing",
        "case when false and $3 <> 0 and $6::boolean then $3 end as left_standing",
        (f"{COUNTS}what_a_report_leaves_standing_is_reported_once_until_it_changes",),
    ),
)
