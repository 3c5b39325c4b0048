-- The newest run of sync $1 whose deletions wait for an approval, unless its kinds were listed again since without any to park.
select r.id, r.message
from clerk_private.runs r
where r.sync = $1 and r.state = 'parked' and r.parked_digest is not null and r.approved_at is null
  and not exists (
    select from clerk_private.runs later
    where later.sync = $1 and later.id > r.id and later.mode in ('full', 'deep') and later.state = 'completed'
      and later.kinds @> (select array_agg(distinct d.kind) from clerk_private.parked_deletions d where d.run_id = r.id))
order by r.id desc
limit 1
