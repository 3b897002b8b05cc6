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
        execute replace(was, change.after, change.before);
    end loop;
end $$;

create or replace function lockgate.wake_behind(p_run uuid) returns bigint
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    ended record;
    goes_on uuid := p_run;
    is_over boolean;
    changed bigint;
begin
    select r.schedule, r.awaited, r.finished_at is not null as is_over into ended from lockgate.task_runs r where r.id = p_run;
    if not found or ended.awaited is null or not ended.is_over then return 0; end if;
    goes_on := lockgate.last_run(p_run);
    is_over := not exists (select from lockgate.task_runs r where r.id = goes_on and r.finished_at is null);
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

drop function lockgate.waited_for(uuid);

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
$$;
comment on function lockgate.delete_run(uuid, text, text) is
    'Deletes a run that is over with all that belongs to it; answers deleted, deleting (retention takes the rest), unknown, needed (it owes messages, or the run that started it or goes on in its place is not over), or the state of one that is not over';
