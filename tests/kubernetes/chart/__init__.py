"""The Helm chart: what values make of it, and what an API server and Helm make of that."""
