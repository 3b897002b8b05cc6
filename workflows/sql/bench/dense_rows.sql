-- The users in $1, which are $2, none above $3.
select id, email, name, locale, title from bench.users
 where id = any ($1::bigint[]) and id <= $3 and $2::bigint > 0
