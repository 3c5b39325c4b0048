{{/* What all pods have in common. */}}
{{- define "nexus-auth.image" -}}
{{- $image := .Values.image }}
{{- $tag := default .Chart.AppVersion $image.tag }}
{{- if $image.digest }}
{{- printf "%s:%s@%s" $image.repository $tag $image.digest }}
{{- else }}
{{- printf "%s:%s" $image.repository $tag }}
{{- end }}
{{- end }}

{{- define "nexus-auth.podSecurityContext" -}}
{{- $mode := .Values.openshift.adaptSecurityContext }}
{{- $context := .Values.podSecurityContext }}
{{- if or (eq $mode "force") (and (eq $mode "auto") (.Capabilities.APIVersions.Has "security.openshift.io/v1")) }}
{{- $context = omit $context "runAsUser" "runAsGroup" "fsGroup" }}
{{- end }}
{{- toYaml $context }}
{{- end }}

{{/* Labels and annotations of a pod template: root, component, values. */}}
{{- define "nexus-auth.podMetadata" -}}
labels:
  {{- include "nexus-auth.labels" . | nindent 2 }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) .values.podAnnotations .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Where a pod runs: root, component, values. */}}
{{- define "nexus-auth.placement" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  {{- $own := dict "labelSelector" (dict "matchLabels" (include "nexus-auth.selector" $ | fromYaml)) "matchLabelKeys" (list "pod-template-hash") }}
  {{- if hasKey . "labelSelector" }}{{ $own = dict }}{{ end }}
  - {{- toYaml (merge (deepCopy .) $own) | nindent 4 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* A read-only root needs a place for temporary files. */}}
{{- define "nexus-auth.tmpVolume" -}}
- name: tmp
  emptyDir:
    sizeLimit: 64Mi
{{- end }}

{{/* A Secret mounted as a folder, never as subPath, so that a changed one is seen: name, secret; key (default: all keys). */}}
{{- define "nexus-auth.secretVolume" -}}
- name: {{ .name }}
  secret:
    secretName: {{ .secret }}
    defaultMode: 0440
    {{- with .key }}
    items:
      - key: {{ . }}
        path: {{ $.path }}
    {{- end }}
{{- end }}

{{/* A probe over HTTP: path, values. */}}
{{- define "nexus-auth.probe" -}}
httpGet:
  path: {{ .path }}
  port: health
{{ toYaml .values }}
{{- end }}

{{/* Connections to Postgres at most: root, component. See values.yaml; a test holds the numbers to the services'. */}}
{{- define "nexus-auth.connections" -}}
{{- $values := index .root.Values .component }}
{{- if not $values.enabled -}}
0
{{- else if eq .component "webhook" -}}
{{- $pods := ternary $values.autoscaling.maxReplicas $values.replicas $values.autoscaling.enabled | int }}
{{- $times := ternary 1 2 (eq (default "RollingUpdate" $values.strategy.type) "Recreate") }}
{{- mul $pods $times (add (int $values.lanes) 4) }}
{{- else -}}
{{- add (mul (int $values.concurrency) 14) 16 }}
{{- end }}
{{- end }}
