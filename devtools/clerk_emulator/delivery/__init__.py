"""How events reach endpoints, as Svix sends them: signed, retried, logged, and spoilt on command."""
