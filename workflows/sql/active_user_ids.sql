-- The next active users above $1, at most $2.
select array(select id from tracker.users where active and id > $1 order by id limit $2)
