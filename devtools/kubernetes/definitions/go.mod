// Kinds of others that the chart makes objects of. Nothing here is compiled: the definitions lie in these modules as
// YAML, and go.sum is their hash. `go mod tidy` would take the requirements away, since no package imports them.
module nexus-auth.dev/devtools/kubernetes/definitions

go 1.26.0

require (
	github.com/prometheus-operator/prometheus-operator v0.85.0
	sigs.k8s.io/gateway-api v1.6.3
)
