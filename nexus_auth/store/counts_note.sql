-- Keeps a check of sync $1 and kind $2: the difference $3, the newest event $4, $5 seconds between two checks that agree, and
-- whether a full sweep has just left it so ($6). What is judged is the excess over what such a sweep left.
with now_left as (
  select $3::bigint as difference, $4::timestamptz as inbox_mark, case when $3 <> 0 and $6::boolean then $3 end as left_standing
)
insert into clerk_private.count_checks as c (sync, kind, difference, inbox_mark, left_standing)
select $1, $2, n.difference, n.inbox_mark, n.left_standing from now_left n
on conflict (sync, kind) do update set
  (difference, inbox_mark, left_standing, checked_at, first_seen_at, stands) = (
    select excluded.difference, excluded.inbox_mark, l.left_standing, now(), s.since,
      l.excess <> 0 and s.since < now() and s.since <= now() - make_interval(secs => $5)
    from (
      select x.left_standing, excluded.difference - coalesce(x.left_standing, 0) as excess
      from (
        select case when excluded.difference <> 0 then coalesce(excluded.left_standing, c.left_standing) end as left_standing) x) l
    cross join lateral (
      select case
          when sign(l.excess) = sign(c.difference - coalesce(c.left_standing, 0))
            and c.inbox_mark is not distinct from excluded.inbox_mark then c.first_seen_at
          else now()
        end as since) s)
