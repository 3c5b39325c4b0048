-- Findings that no event had told of, and one has since: $1 is the run, $2 its sync. Only what came since the sync's former run
-- began is looked at, and a minute more: an event's time of receipt is that when its transaction began.
update clerk_private.findings f set cause = 'received late'
from clerk_private.inbox i
where i.received_at > coalesce(
    (select max(r.started_at) - interval '1 minute' from clerk_private.runs r where r.sync = $2 and r.id < $1), '-infinity')
  and i.kind = f.kind and i.object_id = f.id and f.cause = 'never received' and i.received_at > f.found_at
  and i.observed_at >= coalesce(f.expected_at, 0) and i.observed_at < (extract(epoch from f.found_at) * 1000)::bigint
