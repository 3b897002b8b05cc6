-- True: it was applied and is forgotten now, revert it.
with forgotten as (delete from lockgate.migrations where version = $1 returning 1)
select exists (select 1 from forgotten)
