"""The engine: lists Clerk, finds what the database lacks or has too much, repairs it, and never deletes by mistake.

Plain asyncio; takes a connection pool, a Clerk client and a policy; knows nothing of Kubernetes.
"""
