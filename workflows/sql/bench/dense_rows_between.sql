-- The users from $1 to $2, none above $3.
select id, email, name, locale, title from bench.users where id between $1 and $2 and id <= $3
