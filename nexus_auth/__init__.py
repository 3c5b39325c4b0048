"""The library of nexus-auth: what is true whichever process runs it.

Three floors, no arrow upwards: `clerk` speaks Clerk's language and knows no SQL; `store` is Postgres and knows no HTTP;
`reconcile` stands on both. `services` wire them to the outside world.
"""
