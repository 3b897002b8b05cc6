-- Retention in small pages. The engine may not delete; these owner's functions do it for the leader.
-- prune_runs: runs that still owe something; small, as only unsettled rows are in it.
create index undelivered_unsettled on lockgate.undelivered_messages (run_id)
    where run_id is not null and status in ('due', 'refused', 'claimed', 'dead');

-- prune_runs: the run whose rows are being deleted.
create index task_runs_pruning on lockgate.task_runs (id) where pruning_since is not null;

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

create function lockgate.prune_transitions(p_older_than interval, p_page integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    gone integer;
begin
    -- A run's history goes with the run: the proof reads it.
    delete from lockgate.transitions where ctid in
        (select ctid from lockgate.transitions
          where run_id is null and at < (select clock_timestamp()) - p_older_than limit p_page);
    get diagnostics gone = row_count;
    return gone;
end $$;
comment on function lockgate.prune_transitions(interval, integer) is
    'Deletes up to a page of audit rows that belong to no run and are older than that';

create function lockgate.prune_undelivered(p_older_than interval, p_page integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    gone integer;
begin
    delete from lockgate.undelivered_messages where (command_type, id) in
        (select command_type, id from lockgate.undelivered_messages
          where run_id is null and status in ('delivered', 'discarded')
            and created_at < (select clock_timestamp()) - p_older_than and finished_at < (select clock_timestamp()) - p_older_than
          limit p_page);
    get diagnostics gone = row_count;
    return gone;
end $$;
comment on function lockgate.prune_undelivered(interval, integer) is
    'Deletes up to a page of settled direct commands older than that; rows of a run go with the run';

create function lockgate.prune_replicas(p_older_than interval, p_page integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    gone integer;
begin
    delete from lockgate.replicas where id in
        (select id from lockgate.replicas
          where coalesce(stopped_at, seen_at + stale_after) < clock_timestamp() - p_older_than limit p_page);
    get diagnostics gone = row_count;
    return gone;
end $$;
comment on function lockgate.prune_replicas(interval, integer) is 'Deletes up to a page of replicas gone longer than that';

do $$ begin
    execute (select string_agg(format('revoke all on function %s from public', p.oid::regprocedure), ';')
               from pg_proc p where p.pronamespace = 'lockgate'::regnamespace and p.prosecdef);
end $$;
