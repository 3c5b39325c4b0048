-- How many missing rows run $1 counted and has no finding of: a backfill's rows are not noted one by one.
select greatest(0,
  (select coalesce((r.counts ->> 'missing')::bigint, 0) from clerk_private.runs r where r.id = $1)
  - (select count(*) from clerk_private.findings f where f.run_id = $1 and f.problem = 'missing'))::bigint
