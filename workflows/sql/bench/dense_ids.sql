-- The next ids above $1, at most $2 of them, none above $3.
select array(select id from bench.users where id > $1 and id <= $3 order by id limit $2)
