-- True: recorded now, apply it. False: some earlier or concurrent migrator has applied it.
with recorded as (
    insert into lockgate.migrations (version, title) values ($1, $2) on conflict do nothing returning 1
)
select exists (select 1 from recorded)
