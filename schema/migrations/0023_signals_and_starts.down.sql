create or replace function lockgate.prune_runs(p_older_than interval, p_page integer) returns integer
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
    delete from lockgate.run_steps where run_id = victim and path in
        (select path from lockgate.run_steps where run_id = victim limit p_page);
    get diagnostics gone = row_count;
    if gone > 0 then return gone; end if;
    delete from lockgate.task_runs where id = victim;
    return 1;
end $$;

drop function lockgate.signal_run(uuid, text, jsonb, text, text);
drop function lockgate.wake_run(uuid);
drop table lockgate.signals;
