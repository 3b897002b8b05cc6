-- The first active users.
select id from tracker.users where active order by id limit $1
