-- Adds users $1 to $2: one in ten inactive, five locales.
insert into tracker.users (id, email, name, locale, active)
select n, 'user' || n || '@example.org', 'User ' || n,
       (array['en', 'de', 'fr', 'pt-BR', 'ja'])[1 + n % 5], n % 10 <> 0
  from generate_series($1::bigint, $2::bigint) n
on conflict do nothing
