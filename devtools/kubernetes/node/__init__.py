"""A node of processes: the chart's pods run on this machine without containers, for a person who wants to see them.

It does what a kubelet and a scheduler do as far as our own chart needs it: binds pods, writes their volumes and follows
their Secrets, starts the image's commands from this checkout, asks for readiness, restarts, ends with grace, serves
logs. What it does not do is isolate: a pod is a process of yours with an address of its own on loopback. It is for
trying things; `make e2e` proves the chart on a real node.
"""

CLERK_HOST = "api.clerk.com"
CLERK = f"https://{CLERK_HOST}"
"""For this, the emulator stands in."""
