{{/* Names and labels. Every helper takes the root context, or a dict with "root" and "component". */}}
{{- define "nexus-auth.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "nexus-auth.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- $name := include "nexus-auth.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "nexus-auth.component" -}}
{{ include "nexus-auth.fullname" .root }}-{{ .component }}
{{- end }}

{{- define "nexus-auth.selector" -}}
app.kubernetes.io/name: {{ include "nexus-auth.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "nexus-auth.labels" -}}
{{ include "nexus-auth.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: nexus-auth
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* metadata of an object: root, component; name (default: the component's), namespace, annotations, labels. */}}
{{- define "nexus-auth.metadata" -}}
name: {{ default (include "nexus-auth.component" .) .name }}
{{- if not .clusterwide }}
namespace: {{ default .root.Release.Namespace .namespace }}
{{- end }}
labels:
  {{- include "nexus-auth.labels" . | nindent 2 }}
  {{- with .labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (default dict .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The consent without which the operator does not read a Secret. */}}
{{- define "nexus-auth.readable" -}}
nexus-auth.dev/readable: "true"
{{- end }}

{{- define "nexus-auth.serviceAccount" -}}
{{- $account := (index .root.Values .component).serviceAccount }}
{{- if $account.create }}
{{- default (include "nexus-auth.component" .) $account.name }}
{{- else }}
{{- default "default" $account.name }}
{{- end }}
{{- end }}
