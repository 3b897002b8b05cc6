-- Takes away what keeps a damaged row from being written at all, so that a test can write one.
do $$
declare
    it record;
begin
    for it in select conrelid::regclass as place, conname from pg_constraint
               where connamespace = 'lockgate'::regnamespace and contype in ('c', 'f', 'u') and conrelid <> 0 and coninhcount = 0 and conparentid = 0
    loop
        execute format('alter table %s drop constraint if exists %I', it.place, it.conname);
    end loop;
    for it in select contypid::regtype as place, conname from pg_constraint
               where connamespace = 'lockgate'::regnamespace and contypid <> 0
    loop
        execute format('alter domain %s drop constraint if exists %I', it.place, it.conname);
    end loop;
    for it in select i.indexrelid::regclass as place from pg_index i join pg_class c on c.oid = i.indexrelid
               where c.relnamespace = 'lockgate'::regnamespace and i.indisunique and not i.indisprimary and not c.relispartition
    loop
        execute format('drop index %s', it.place);
    end loop;
end $$;
