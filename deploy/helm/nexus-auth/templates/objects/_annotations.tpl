{{/*
What keeps an object of our own kinds with the release, and lets it stay behind: root, kind, weight.

Where the cluster has the kind, it is an object like all others. Where the kind comes with this very release, Helm could not
place it yet: then it is a hook, which later upgrades take over by the annotations that Helm knows its own objects by.
*/}}
{{- define "nexus-auth.objectAnnotations" -}}
helm.sh/resource-policy: keep
{{- if not (.root.Capabilities.APIVersions.Has (print "nexus-auth.dev/v1alpha1/" .kind)) }}
{{- if hasPrefix "v3." .root.Capabilities.HelmVersion.Version }}
{{- fail (printf "%s.create: the kind is not there yet, and Helm 3 would not keep up to date what it makes of a kind that comes with the same release. Install without it and upgrade with it, or use Helm 4." (untitle .kind)) }}
{{- end }}
helm.sh/hook: post-install,post-upgrade
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: hook-failed
meta.helm.sh/release-name: {{ .root.Release.Name }}
meta.helm.sh/release-namespace: {{ .root.Release.Namespace }}
{{- end }}
{{- end }}
