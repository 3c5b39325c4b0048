-- How many rows applications read, by kind.
select t.kind, count(*) as number from clerk_private.typed_rows t group by t.kind
