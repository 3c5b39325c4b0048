-- Findings of one run ($1; null: of the newest run that found such), of a kind ($2) and problem ($3), the newest first; $4 limits
-- the rows. total and open count all of them: what matches, and what of it still stands ($5: actions that leave it standing).
select f.run_id, r.sync, r.mode, r.policy, f.found_at, f.kind, f.id, f.problem, f.action, f.cause, f.expected_at,
  count(*) over () as total, count(*) filter (where f.action = any ($5::text[])) over () as open
from clerk_private.findings f
join clerk_private.runs r on r.id = f.run_id
where f.run_id = coalesce($1, (
    select max(x.run_id) from clerk_private.findings x
    where ($2::text is null or x.kind = $2) and ($3::text is null or x.problem = $3)))
  and ($2::text is null or f.kind = $2) and ($3::text is null or f.problem = $3)
order by f.found_at desc, f.kind, f.id
limit $4
