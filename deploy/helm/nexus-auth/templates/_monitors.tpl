{{/* Whether a monitor is rendered where its kind may be missing: root, kind, mode. */}}
{{- define "nexus-auth.rendersMonitor" -}}
{{- $there := .root.Capabilities.APIVersions.Has (print "monitoring.coreos.com/v1/" .kind) }}
{{- if and (eq .mode "failIfMissing") (not $there) }}
{{- fail (printf "this cluster has no %s (monitoring.coreos.com/v1): install the Prometheus operator, or set renderMode to skipIfMissing" .kind) }}
{{- end }}
{{- or $there (eq .mode "alwaysRender") }}
{{- end }}
