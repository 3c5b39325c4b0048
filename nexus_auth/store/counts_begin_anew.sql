-- No difference of sync $1 and kind $2 stands any more.
update clerk_private.count_checks set stands = false, first_seen_at = now() where sync = $1 and kind = $2
