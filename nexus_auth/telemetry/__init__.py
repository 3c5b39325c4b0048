"""What a process tells those who run it: log lines, metrics, health."""
