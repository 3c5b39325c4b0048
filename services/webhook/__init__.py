"""The webhook service: a signed event arrives, is verified, stored, and only then acknowledged."""
