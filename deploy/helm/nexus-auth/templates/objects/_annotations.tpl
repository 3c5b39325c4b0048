{{/*
What keeps an object of our own kinds with the release, and lets it stay behind: root, kind, weight.

It is a hook: Helm could not place an object whose kind comes with the same release, and `--wait` would wait for a sync that
waits for a human. Helm 3 cannot change what a hook has made: there it is an object like all others, which Helm 3 does not
wait for; and since it would never change one that it takes over, the kind has to be there first.
*/}}
{{- define "nexus-auth.objectAnnotations" -}}
helm.sh/resource-policy: keep
{{- if not (hasPrefix "v3." .root.Capabilities.HelmVersion.Version) }}
helm.sh/hook: post-install,post-upgrade
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: hook-failed
{{- else if not (.root.Capabilities.APIVersions.Has (print "nexus-auth.dev/v1alpha1/" .kind)) }}
{{- fail (printf "%s.create: the kind is not there yet, and Helm 3 would not keep up to date what it makes of a kind that comes with the same release. Install without it and upgrade with it, or use Helm 4." (untitle .kind)) }}
{{- end }}
{{- end }}
