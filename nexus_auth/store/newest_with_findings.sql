-- The newest run of sync $1, runs by hand beside it included, with a finding of kind $2 and problem $3 (null: any).
select max(f.run_id)
from clerk_private.findings f
join clerk_private.runs r on r.id = f.run_id
where (r.sync = $1 or r.sync like $1 || '/%') and ($2::text is null or f.kind = $2) and ($3::text is null or f.problem = $3)
