drop function lockgate.act_on_runs(text, jsonb, text, text, boolean, integer, uuid);
drop function lockgate.act_on_run(text, uuid, text, text);
drop function lockgate.find_runs(text, jsonb, uuid, integer);
drop function lockgate.check_run_filter(jsonb);
drop function lockgate.delete_run(uuid, text, text);
drop function lockgate.prune_runs(interval, integer);
drop function lockgate.prunable_runs(uuid[], interval, bigint);
drop function lockgate.is_needed(uuid);
drop function lockgate.prune_run_rows(uuid, integer);
drop function lockgate.first_id_at(timestamptz);
comment on column lockgate.transitions.key is 'Schedule name, id of an undelivered row or name of a lease';
create index task_runs_finished on lockgate.task_runs (finished_at) where finished_at is not null;
drop table lockgate.retention_cursor;

create function lockgate.prune_runs(p_older_than interval, p_page integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    victim uuid;
    gone integer;
begin
    -- One run at a time and a page of its batches at a time, so that no statement holds much for long.
    -- A run that still owes messages stays: they can be sent again, and the proof counts them.
    -- One that was begun is ended, also when the age was raised meanwhile.
    select r.id into victim from lockgate.task_runs r where r.pruning_since is not null limit 1 for update skip locked;
    if not found then
    select r.id into victim from lockgate.task_runs r
     where r.finished_at is not null and r.finished_at < (select clock_timestamp()) - p_older_than
       and not exists (select 1 from lockgate.run_batches b where b.run_id = r.id and b.status = 'claimed')
       and not exists (select 1 from lockgate.undelivered_messages u
                        where u.run_id = r.id and u.status in ('due', 'refused', 'claimed', 'dead'))
     order by r.finished_at limit 1 for update skip locked;
    if not found then return 0; end if;
    end if;
    -- From the first page on: a proof made of what is left would be wrong.
    update lockgate.task_runs set pruning_since = clock_timestamp() where id = victim and pruning_since is null;
    delete from lockgate.undelivered_messages where (command_type, id) in
        (select command_type, id from lockgate.undelivered_messages where run_id = victim limit p_page);
    get diagnostics gone = row_count;
    if gone > 0 then return gone; end if;
    delete from lockgate.run_batches where run_id = victim and seq in
        (select seq from lockgate.run_batches where run_id = victim limit p_page);
    get diagnostics gone = row_count;
    if gone > 0 then return gone; end if;
    delete from lockgate.transitions where ctid in
        (select ctid from lockgate.transitions where run_id = victim limit p_page);
    get diagnostics gone = row_count;
    if gone > 0 then return gone; end if;
    delete from lockgate.task_runs where id = victim;
    return 1;
end $$;
comment on function lockgate.prune_runs(interval, integer) is
    'Deletes up to a page of rows of the oldest run that finished longer ago than that and owes no messages; 0: nothing left to prune';

do $$ begin
    if exists (select 1 from pg_roles where rolname = 'lockgate_reader') then
        revoke select (pruning_since) on lockgate.task_runs from lockgate_reader;
    end if;
    revoke all on function lockgate.prune_runs(interval, integer) from public;
    if exists (select 1 from pg_roles where rolname = 'lockgate_engine') then
        grant execute on function lockgate.prune_runs(interval, integer) to lockgate_engine;
    end if;
end $$;
