-- Runs that are over and still needed by others: by children that are to be cancelled with them, and by those behind them in
-- a line in which they never had their turn.

create or replace function lockgate.is_needed(p_run uuid) returns boolean
language sql stable set search_path = pg_catalog, pg_temp as $$
    select exists (select from lockgate.run_batches b where b.run_id = p_run and b.status = 'claimed')
        -- They can be sent again, and the proof counts them.
        or exists (select from lockgate.undelivered_messages u
                    where u.run_id = p_run and u.status in ('due', 'refused', 'claimed', 'dead'))
        or exists (select from lockgate.task_runs r join lockgate.task_runs p on p.id = r.parent_id
                    where r.id = p_run and p.finished_at is null and r.continued_as is null)
        -- By its first one a run that went on is known, and asked for.
        or exists (select from lockgate.task_runs r
                    where r.id = p_run and r.continued_as is not null
                      and not exists (select from lockgate.task_runs b where b.id = r.continues)
                      and exists (select from lockgate.task_runs l where l.id = lockgate.last_run(r.id) and l.finished_at is null))
        -- By its open steps its children are found that are to be cancelled with it, and are not asked to yet.
        or exists (select from lockgate.run_steps s
                     join lockgate.task_runs c on c.parent_id = s.run_id and c.parent_path = s.path
                    where s.run_id = p_run and s.kind = 'child' and s.status = 'open'
                      and c.finished_at is null and c.stop_status is null and c.detached is null)
$$;
comment on function lockgate.delete_run(uuid, text, text) is
    'Deletes a run that is over with all that belongs to it; answers deleted, deleting (retention takes the rest), unknown, needed (it owes messages, the run that started it or the one that goes on in its place is not over, or children of it are still to be cancelled), or the state of one that is not over';

create function lockgate.waited_for(p_run uuid) returns uuid
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    meant uuid := p_run;
    found_run record;
begin
    loop
        meant := lockgate.last_run(meant);
        select r.finished_at is null as is_open, case when r.started_at is null then r.after_run end as before
          into found_run from lockgate.task_runs r where r.id = meant;
        if found_run.is_open then return meant; end if;
        if found_run.before is null then return null; end if;
        meant := found_run.before;
    end loop;
end $$;
comment on function lockgate.waited_for(uuid) is
    'Whom those wait for that wait for this run: the one that goes on in its place; if it never began, whom it waited for itself; null: nobody';

create or replace function lockgate.wake_behind(p_run uuid) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    ended record;
    goes_on uuid := p_run;
    is_over boolean;
    changed bigint;
begin
    select r.schedule, r.awaited, r.finished_at is not null as is_over, case when r.started_at is null then r.after_run end as before
      into ended from lockgate.task_runs r where r.id = p_run;
    if not found or ended.awaited is null or not ended.is_over then return 0; end if;
    goes_on := lockgate.last_run(p_run);
    is_over := not exists (select from lockgate.task_runs r where r.id = goes_on and r.finished_at is null);
    -- One that was in the line and never began: those behind it wait for the one that it waited for.
    if is_over and ended.before is not null then
        goes_on := lockgate.waited_for(ended.before);
        is_over := goes_on is null;
        if not is_over then
            update lockgate.task_runs e set awaited = coalesce(e.awaited, 0) + ended.awaited
             where e.id = (select l.id from lockgate.task_runs l
                            where l.id = goes_on and l.finished_at is null for no key update skip locked);
            if not found then return 0; end if;
        end if;
    end if;
    -- The oldest slots that are not over come first. What somebody has locked is left to the sweep.
    with behind as (
        select f.id from lockgate.task_runs f
         where f.schedule = ended.schedule and f.finished_at is null and f.after_run = p_run
           and f.wake_at is null and f.status = 'queued'
         order by f.slot limit ended.awaited
           for no key update skip locked
    )
    update lockgate.task_runs f
       set after_run = case when is_over then f.after_run else goes_on end,
           wake_at = case when is_over then n.at end,
           rank = case when is_over then n.at - f.priority * interval '15 seconds' end
      from behind cross join (select clock_timestamp() as at) n
     where f.id = behind.id;
    get diagnostics changed = row_count;
    if changed > 0 and is_over then perform pg_notify('lockgate_wake', 'run'); end if;
    return changed;
end $$;

do $$
begin
    revoke all on function lockgate.waited_for(uuid) from public;
    if exists (select from pg_roles where rolname = 'lockgate_engine') then
        grant execute on function lockgate.waited_for(uuid) to lockgate_engine;
    end if;
end $$;

-- One that is put at the end of a line waits for whoever is waited for there; and of whom the children are still to be
-- cancelled nothing is pruned.
do $$
declare
    change record;
    was text;
begin
    for change in select * from (values
        ('backfill_schedule', 'e.id = lockgate.last_run(s.id) and e.finished_at is null',
         'e.id = lockgate.waited_for(s.id) and e.finished_at is null'),
        ('prunable_runs', '(b.has or r.parent_id is not null)', '(b.has or r.parent_id is not null or exists (select from lockgate.run_steps c where c.run_id = r.id and c.kind = ''child'' and c.status = ''open''))'))
        c (name, before, after)
    loop
        select pg_get_functiondef(p.oid) into strict was from pg_proc p
         where p.pronamespace = 'lockgate'::regnamespace and p.proname = change.name;
        if strpos(was, change.before) = 0 then raise exception '% is not as it was', change.name; end if;
        execute replace(was, change.before, change.after);
    end loop;
end $$;
