-- The users in $1, which are $2, none above $3. Ids that lie as dense as every third are found sooner by walking the
-- range and looking each up in a hash table of the ids (`id + 0` keeps the index from being probed once an id).
select id, email, name, locale, title from bench.users
 where id between ($1::bigint[])[1] and ($1::bigint[])[$2::bigint::integer] and id + 0 = any ($1::bigint[]) and id <= $3
