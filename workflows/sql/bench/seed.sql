-- Users from $1 to $2. Whether one is picked depends on nothing but the id.
insert into bench.users (id, email, name, locale, title, about, picked)
select n, 'user' || lpad(n::text, 9, '0') || '@example.com', 'User number ' || lpad(n::text, 9, '0'),
       (array['en', 'de', 'fr', 'es'])[1 + n % 4], 'Your tasks of yesterday, number ' || lpad(n::text, 8, '0'),
       rpad(md5(n::text), 70, md5((n + 1)::text)), (hashint8(n) & 2147483647) % 100 < 30
  from generate_series($1::bigint, $2::bigint) n
