-- Why each finding of a run came to be, as far as the inbox can tell: $1 is the run.
with judged as (
  select f.kind, f.id, case
      when f.problem = 'edited' then 'edited by hand'
      when f.problem = 'projection' then 'mapper changed'
      when f.problem in ('resurfaced', 'ahead', 'deep') then 'unknown'
      when exists (
        select from clerk_private.inbox i
        where i.object_id = f.id and i.kind = f.kind and i.state = 'parked') then 'parked'
      when exists (
        select from clerk_private.inbox i
        where i.object_id = f.id and i.kind = f.kind and i.received_at > f.found_at
          and i.observed_at >= coalesce(f.expected_at, 0) and i.observed_at < (extract(epoch from f.found_at) * 1000)::bigint)
        then 'received late'
      else 'never received'
    end as cause
  from clerk_private.findings f
  where f.run_id = $1 and f.cause is null
)
update clerk_private.findings f set cause = j.cause
from judged j
where f.run_id = $1 and f.kind = j.kind and f.id = j.id
