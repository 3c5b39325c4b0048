-- What the current role may know of arrivals: each service reads no more than it needs.
select pg_catalog.has_column_privilege('clerk_private.instance', 'id', 'select') as holder,
  pg_catalog.has_column_privilege('clerk_private.instance', 'claimed_at', 'select') as claimed,
  pg_catalog.has_column_privilege('clerk_private.inbox_seen', 'received_at', 'select') as last,
  pg_catalog.has_column_privilege('clerk_private.inbox', 'secret', 'select')
    and pg_catalog.has_column_privilege('clerk_private.inbox', 'received_at', 'select') as secrets,
  pg_catalog.has_column_privilege('clerk_private.distrusted_secrets', 'secret', 'select')
    and pg_catalog.has_column_privilege('clerk_private.distrusted_secrets', 'since', 'select')
    and pg_catalog.has_column_privilege('clerk_private.distrusted_secrets', 'cleared_at', 'select') as distrusted
