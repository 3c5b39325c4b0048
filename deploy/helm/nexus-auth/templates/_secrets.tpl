{{/* Each secret is in a Secret of yours, or, where secrets.allowInValues says so, in one that the chart makes. */}}
{{- define "nexus-auth.secretName" -}}
{{- if .of.existingSecret }}
{{- .of.existingSecret }}
{{- else }}
{{- printf "%s-%s" (include "nexus-auth.fullname" .root) .suffix }}
{{- end }}
{{- end }}

{{/* Refuses what cannot work, with a sentence that says what to do. */}}
{{- define "nexus-auth.check" -}}
{{- $v := .Values }}
{{- $inline := list }}
{{- if $v.clerk.apiKey.value }}{{ $inline = append $inline "clerk.apiKey.value" }}{{ end }}
{{- if $v.webhook.database.url }}{{ $inline = append $inline "webhook.database.url" }}{{ end }}
{{- if $v.webhook.signing.secrets }}{{ $inline = append $inline "webhook.signing.secrets" }}{{ end }}
{{- if $v.webhook.withhold.value }}{{ $inline = append $inline "webhook.withhold.value" }}{{ end }}
{{- if $v.migrations.database.url }}{{ $inline = append $inline "migrations.database.url" }}{{ end }}
{{- if and $inline (not $v.secrets.allowInValues) }}
{{- fail (printf "%s: a secret in values lies in Helm's record of the release for good. Put it into a Secret and name that in existingSecret, or set secrets.allowInValues=true for a trial." (join ", " $inline)) }}
{{- end }}
{{- if $v.webhook.enabled }}
{{- if not (or $v.webhook.database.existingSecret $v.webhook.database.url) }}
{{- fail "webhook.database.existingSecret: name the Secret with the connection URL of the webhook's login." }}
{{- end }}
{{- if not (or $v.webhook.signing.existingSecret $v.webhook.signing.secrets) }}
{{- fail "webhook.signing.existingSecret: name the Secret with Clerk's signing secrets (whsec_…)." }}
{{- end }}
{{- if not (or $v.webhook.withhold.existingSecret $v.webhook.withhold.value) }}
{{- fail "webhook.withhold.existingSecret: name the Secret with the withhold key (openssl rand -hex 32)." }}
{{- end }}
{{- if not (or $v.clerk.instanceId $v.clerk.apiKey.existingSecret $v.clerk.apiKey.value) }}
{{- fail "clerk.instanceId or clerk.apiKey.existingSecret: the webhook must know which Clerk instance it serves." }}
{{- end }}
{{- if le (int $v.webhook.terminationGracePeriodSeconds) (add (int $v.webhook.preStopSeconds) (int $v.webhook.drainSeconds) | int) }}
{{- fail "webhook.terminationGracePeriodSeconds must be more than preStopSeconds + drainSeconds, or a stopping pod is killed while it finishes." }}
{{- end }}
{{- if and $v.webhook.autoscaling.enabled (gt (int $v.webhook.autoscaling.minReplicas) (int $v.webhook.autoscaling.maxReplicas)) }}
{{- fail "webhook.autoscaling.minReplicas is more than maxReplicas." }}
{{- end }}
{{- if and $v.webhook.ingress.enabled (not $v.webhook.ingress.host) }}
{{- fail "webhook.ingress.host: name the host that Clerk delivers to." }}
{{- end }}
{{- if and $v.webhook.httpRoute.enabled (not $v.webhook.httpRoute.parentRefs) }}
{{- fail "webhook.httpRoute.parentRefs: name the Gateway that the route hangs on." }}
{{- end }}
{{- end }}
{{- if and $v.migrations.enabled (not (or $v.migrations.database.existingSecret $v.migrations.database.url)) }}
{{- fail "migrations.database.existingSecret: name the Secret with the URL of the database's owner, or set migrations.enabled=false and run `nexus-auth migrate` yourself." }}
{{- end }}
{{- if and $v.migrations.enabled $v.migrations.logins.create (not $v.webhook.enabled) (not $v.migrations.logins.reconciler.existingSecret) (not $v.migrations.logins.cli.existingSecret) }}
{{- fail "migrations.logins.create: no login is named. Set migrations.logins.reconciler.existingSecret, or migrations.logins.create=false." }}
{{- end }}
{{- if and $v.clerkInstance.create (not (or $v.clerkInstance.spec.secretKeyRef $v.clerk.apiKey.existingSecret $v.clerk.apiKey.value)) }}
{{- fail "clerkInstance.create needs clerk.apiKey.existingSecret or clerkInstance.spec.secretKeyRef: where the API key is." }}
{{- end }}
{{- end }}
