-- The next active users above $1, at most $2 of those up to $4.
select array(select id from tracker.users where active and id > $1 and id <= $4 order by id limit $2)
