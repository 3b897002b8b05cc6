-- Runs that go on as others stay one run to whoever asks for the first, waits for it, or fires its schedule; and runs that
-- wait until another is over are looked at when it is.

-- Pointers, and no index: each write of a run opens all there are.
alter table lockgate.task_runs
    add column continues uuid,
    add column awaited integer,
    drop constraint task_runs_check1,
    add constraint task_runs_slot_check check (slot is null or schedule is not null);
comment on column lockgate.task_runs.schedule is
    'Name of the schedule that fired it, or the run in whose place it goes on';
comment on column lockgate.task_runs.leader_term is
    'Term of the leader that fired it, or the run in whose place it goes on, for scheduled runs';
comment on column lockgate.task_runs.continued_as is
    'Run that goes on in its place, or the next of those that are still there; null: none';

comment on column lockgate.task_runs.continues is
    'Run in whose place it goes on, or the last of those before it that are still there; null: none';
comment on column lockgate.task_runs.awaited is 'How many runs were made to wait until it is over, or the run in whose place it goes on; null: none';
update lockgate.task_runs n set continues = p.id from lockgate.task_runs p where p.continued_as = n.id;

create function lockgate.wake_behind(p_run uuid) returns bigint
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
comment on function lockgate.wake_behind(uuid) is
    'Lets the runs begin that wait until this one is over, or makes them wait for the one that goes on in its place; answers how many. Nothing while it is not over';

create or replace function lockgate.backfill_schedule(name text, slots timestamptz[], at_once integer default 1,
    dry_run boolean default false, actor text default null, behind timestamptz[] default null)
returns table (slot timestamptz, outcome text, run_id uuid)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    plan lockgate.schedules;
    started record;
    earlier uuid;
    new bigint := 0;
    i integer;
begin
    select * into plan from lockgate.schedules s where s.name = backfill_schedule.name for share;
    if not found then
        raise exception 'backfill_schedule: there is no schedule %; nothing was started', backfill_schedule.name
            using errcode = 'no_data_found';
    end if;
    if cardinality(slots) > 500 or at_once < 1 or cardinality(coalesce(behind, slots)) <> cardinality(slots) then
        raise exception 'backfill_schedule: give at most 500 slots and let at least one run at once; nothing was started'
            using errcode = 'invalid_parameter_value';
    end if;
    for i in 1 .. coalesce(cardinality(slots), 0) loop
        slot := slots[i];
        if slot >= clock_timestamp() then
            raise exception 'backfill_schedule: slot % is not past; nothing was started', slot
                using errcode = 'invalid_parameter_value', hint = 'it fires by itself';
        end if;
        select r.id into run_id from lockgate.task_runs r where r.schedule = plan.name and r.slot = slots[i];
        outcome := case when run_id is null then 'missing' else 'found' end;
        if outcome = 'missing' and not dry_run then
            select s.outcome, s.run_id into started from lockgate.try_start_new_run(
                p_id => lockgate.new_id(), p_workflow => plan.workflow, p_params => plan.params, p_driven_by => 'engine',
                p_singleton_key => null, p_idempotency_key => null, p_schedule => plan.name, p_slot => slots[i],
                p_wake_at => null, p_pace_per_s => plan.pace_per_s, p_deadline => plan.run_deadline, p_origin_id => null,
                p_traceparent => null, p_leader_term => null, p_actor => lockgate.acting_user(backfill_schedule.actor)) s;
            outcome := started.outcome;
            run_id := started.run_id;
            -- So many chains: each run waits until the one so many places before it is over, and is in nobody's way
            -- until then. Who ends that one in this moment waits for this, and sees who waits for it.
            update lockgate.task_runs e set awaited = coalesce(e.awaited, 0) + 1
              from lockgate.task_runs s
             where outcome = 'new' and s.schedule = plan.name
               and s.slot = case when behind is null then slots[i - at_once] else behind[i] end
               and e.id = lockgate.last_run(s.id) and e.finished_at is null
            returning e.id into earlier;
            update lockgate.task_runs r set after_run = earlier, wake_at = null, rank = null
             where earlier is not null and r.id = run_id;
            new := new + (outcome = 'new')::integer;
        end if;
        return next;
    end loop;
    if new > 0 then
        insert into lockgate.transitions (entity, key, from_status, to_status, actor, reason)
        select 'schedule', plan.name, s.state, s.state, lockgate.acting_user(backfill_schedule.actor),
               format('%s runs for slots from %s to %s that had none', new, slots[1], slots[cardinality(slots)])
          from (select case when plan.paused_at is null then 'active' else 'paused' end as state) s;
    end if;
end $$;

create or replace function lockgate.settle_stop(p_run uuid) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    was lockgate.task_runs;
begin
    select * into was from lockgate.task_runs
     where id = p_run and stop_status is not null and finished_at is null and claim_id is null
       for no key update;
    if not found or was.undoing then return false; end if;
    if was.undoing is null and lockgate.not_undone(p_run) <> '{}' then
        -- Whoever has its code runs it, and nothing new of it begins.
        update lockgate.task_runs r
           set undoing = true, wake_seq = r.wake_seq + 1, wake_at = n.at, rank = n.at - r.priority * interval '15 seconds',
               status = case when r.status in ('paused', 'quarantined') then 'running' else r.status end
          from (select clock_timestamp() as at) n
         where r.id = p_run;
        insert into lockgate.transitions (entity, run_id, from_status, to_status, reason)
        values ('run', p_run, was.status, 'undoing', was.stop_reason);
        perform pg_notify('lockgate_wake', 'run');
        return false;
    end if;
    -- Claims do not lock the run, and one whose snapshot is older than the stop still sees a run to work on. It takes its
    -- batch before this, which then waits for it and sees it held below; or it waits for this and finds the batch far off.
    update lockgate.run_batches
       set not_before = not_before + interval '100 years'
     where run_id = p_run and status in ('free', 'recoverable')
       and not_before < clock_timestamp() + interval '50 years';
    -- Asked to stop, its code is not running and no batch of it is held: it is over.
    with before as (
        select id, status from lockgate.task_runs
         where id = p_run and stop_status is not null and finished_at is null and claim_id is null
           and not exists (select 1 from lockgate.run_batches b where b.run_id = p_run and b.status = 'claimed')
           for no key update
    ), over as (
        update lockgate.task_runs r
           set status = r.stop_status, reason = r.stop_reason, finished_at = clock_timestamp(), wake_at = null
          from before where r.id = before.id
        returning r.id, before.status as came_from, r.status, r.stop_reason
    )
    insert into lockgate.transitions (entity, run_id, from_status, to_status, reason)
    select 'run', id, came_from, status, stop_reason from over;
    if not found then return false; end if;
    perform lockgate.wake_parent(p_run);
    if was.schedule is not null then perform lockgate.wake_behind(p_run); end if;
    return true;
end $$;

create or replace function lockgate.signal_run(
    run uuid, name text, payload jsonb default 'null', idempotency_key text default null, actor text default null)
returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    meant uuid := signal_run.run;
    next uuid;
    was text;
    waiting bigint;
begin
    if coalesce(signal_run.name, '') = '' or octet_length(signal_run.name) > 100 then
        raise exception 'signal_run: a name has 1 to 100 bytes; nothing was sent' using errcode = 'invalid_parameter_value';
    end if;
    if octet_length(convert_to(coalesce(signal_run.payload, 'null')::text, 'UTF8')) > 65536 then
        raise exception 'signal_run: the payload is larger than 64 KiB; nothing was sent' using errcode = 'program_limit_exceeded';
    end if;
    loop
        select r.status, r.continued_as into was, next from lockgate.task_runs r where r.id = meant;
        if next is null then
            -- The lock gives the signals of a run their order. Those that went on are only read: nothing of them changes.
            select r.status, r.continued_as into was, next from lockgate.task_runs r where r.id = meant for no key update;
        end if;
        if not found then return 'unknown'; end if;
        -- Known before over: who asks again because an answer was lost hears that it was sent.
        if signal_run.idempotency_key is not null then
            perform from lockgate.signals s
             where s.run_id = meant and s.idempotency_key = signal_run.idempotency_key;
            if found then return 'known'; end if;
        end if;
        exit when next is null;
        meant := next;
    end loop;
    if was in ('completed', 'failed', 'cancelled') then return was; end if;
    select count(*) into waiting
      from (select from lockgate.signals s where s.run_id = meant and s.consumed_by is null limit 1000) s;
    if waiting >= 1000 then return 'full'; end if;
    insert into lockgate.signals (run_id, seq, name, payload, idempotency_key, actor)
    select meant, coalesce(max(s.seq), 0) + 1, signal_run.name,
           convert_to(coalesce(signal_run.payload, 'null')::text, 'UTF8'), signal_run.idempotency_key,
           lockgate.acting_user(signal_run.actor)
      from lockgate.signals s where s.run_id = meant;
    perform lockgate.wake_run(meant);
    perform pg_notify('lockgate_wake', 'run');
    return 'sent';
end $$;

create function lockgate.lead_past(p_run uuid) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform from lockgate.task_runs r join lockgate.task_runs x on x.id in (r.continues, r.continued_as)
      where r.id = p_run for no key update of x nowait;
    update lockgate.task_runs b set continued_as = r.continued_as
      from lockgate.task_runs r where r.id = p_run and b.id = r.continues;
    update lockgate.task_runs a set continues = r.continues
      from lockgate.task_runs r where r.id = p_run and a.id = r.continued_as;
    return true;
exception when lock_not_available then
    return false;
end $$;
comment on function lockgate.lead_past(uuid) is
    'Leads whoever asks for the run before one that is about to be deleted to the one behind it; false: somebody has one of these locked';

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

comment on function lockgate.is_needed(uuid) is
    'Whether a run that is over owes messages, has batches that are held, was started by a run that is not over, or is the first of those that went on and are not over';

create or replace function lockgate.prunable_runs(p_looked uuid[], p_older_than interval, p_rows bigint,
    out plain uuid[], out large uuid[], out looked bigint)
language sql stable set search_path = pg_catalog, pg_temp as $$
    with judged as (
        select l.id, l.at, s.n, not b.has and s.n <= 100 and r.claim_token <= 100 as is_plain
          from unnest(p_looked) with ordinality l (id, at)
          join lockgate.task_runs r on r.id = l.id
         cross join lateral (select exists (select from lockgate.run_batches x where x.run_id = r.id) as has) b
         cross join lateral (select count(*) as n from (select from lockgate.run_steps x where x.run_id = r.id limit 101) x) s
         where r.finished_at < (select clock_timestamp()) - p_older_than and r.pruning_since is null
           and not ((b.has or r.parent_id is not null) and lockgate.is_needed(r.id))
           -- The first of those that went on answers for the others, and goes when they are gone.
           and (r.continued_as is null or exists (select from lockgate.task_runs b where b.id = r.continues)
                or not exists (select from lockgate.task_runs a where a.id = r.continued_as))
    ), summed as (
        select id, at, is_plain, sum(n + 2) over (order by at) - (n + 2) as before from judged
    ), cut as (
        -- So many rows at once, however many the runs have; the rest is looked at again.
        select coalesce(min(at) filter (where before > p_rows) - 1, cardinality(p_looked)) as at from summed
    )
    select coalesce(array_agg(s.id) filter (where s.is_plain), '{}'), coalesce(array_agg(s.id) filter (where not s.is_plain), '{}'),
           (select at from cut)
      from summed s where s.at <= (select at from cut)
$$;

create or replace function lockgate.prune_run_rows(p_run uuid, p_page integer) returns integer
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
declare
    gone integer;
begin
    delete from lockgate.undelivered_messages where (command_type, id) in
        (select command_type, id from lockgate.undelivered_messages where run_id = p_run limit p_page);
    get diagnostics gone = row_count;
    if gone > 0 then return gone; end if;
    delete from lockgate.run_batches where run_id = p_run and seq in
        (select seq from lockgate.run_batches where run_id = p_run limit p_page);
    get diagnostics gone = row_count;
    if gone > 0 then return gone; end if;
    delete from lockgate.transitions where ctid in
        (select ctid from lockgate.transitions where run_id = p_run limit p_page);
    get diagnostics gone = row_count;
    if gone > 0 then return gone; end if;
    delete from lockgate.run_steps where run_id = p_run and path in
        (select path from lockgate.run_steps where run_id = p_run limit p_page);
    get diagnostics gone = row_count;
    if gone > 0 then return gone; end if;
    delete from lockgate.signals where run_id = p_run and seq in
        (select seq from lockgate.signals where run_id = p_run limit p_page);
    get diagnostics gone = row_count;
    if gone > 0 then return gone; end if;
    if not lockgate.lead_past(p_run) then return 0; end if;
    delete from lockgate.task_runs where id = p_run;
    return 1;
end $$;

create or replace function lockgate.prune_runs(p_older_than interval, p_page integer, out pruned bigint, out more boolean)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    place record;
    begun uuid;
    looked uuid[];
    found_runs record;
    some_went_on boolean;
    gone bigint;
begin
    pruned := 0;
    more := false;
    -- One at a time; whoever is second has nothing to do.
    perform from lockgate.retention_cursor c where c.what = 'in_order' for update skip locked;
    if not found then return; end if;
    -- A run with batches or many rows goes a page at a time, and one that was begun is ended, whatever its age.
    select r.id into begun from lockgate.task_runs r where r.pruning_since is not null limit 1 for update skip locked;
    if found then
        pruned := lockgate.prune_run_rows(begun, p_page);
        more := pruned > 0;
        return;
    end if;
    for place in
        select c.what, c.after, c.lapped_at < clock_timestamp() - interval '10 minutes' as again, b.first, b.up_to
          from lockgate.retention_cursor c
         cross join lateral (
             select case c.what when 'in_order' then '00000000-0000-0000-0000-000000000000'::uuid
                                else lockgate.first_id_at(clock_timestamp() + interval '1 day') end as first,
                    case c.what when 'in_order' then lockgate.first_id_at(clock_timestamp() - p_older_than)
                                else 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid end as up_to) b
         order by c.what
    loop
        looked := array(select r.id from lockgate.task_runs r
                         where r.id > greatest(place.after, place.first) and r.id <= place.up_to
                         order by r.id limit p_page * 5);
        if cardinality(looked) > 0 then exit; end if;
        -- What was passed because it was not over, or is needed, is looked at again, though not at every pass.
        update lockgate.retention_cursor c set after = place.first, lapped_at = clock_timestamp()
         where c.what = place.what and place.again and c.after > place.first;
        more := more or found;
    end loop;
    if cardinality(looked) = 0 then return; end if;
    more := true;
    select * into found_runs from lockgate.prunable_runs(looked, p_older_than, p_page::bigint * 50);
    update lockgate.retention_cursor c set after = looked[found_runs.looked] where c.what = place.what;
    -- From now on: a proof made of what is left would be wrong.
    update lockgate.task_runs r set pruning_since = clock_timestamp() where r.id = any (found_runs.large);
    select coalesce(array_agg(l.id), '{}'), coalesce(bool_or(l.went_on), false) into looked, some_went_on
      from (select r.id, r.continued_as is not null as went_on from lockgate.task_runs r
             where r.id = any (found_runs.plain) order by r.id for update skip locked) l;
    if some_went_on then
        looked := array(select r.id from lockgate.task_runs r
                         where r.id = any (looked) and (r.continued_as is null or lockgate.lead_past(r.id)));
    end if;
    delete from lockgate.signals s where s.run_id = any (looked);
    get diagnostics gone = row_count;
    pruned := pruned + gone;
    delete from lockgate.run_steps s where s.run_id = any (looked);
    get diagnostics gone = row_count;
    pruned := pruned + gone;
    delete from lockgate.transitions t where t.run_id = any (looked);
    get diagnostics gone = row_count;
    pruned := pruned + gone;
    delete from lockgate.task_runs r where r.id = any (looked);
    get diagnostics gone = row_count;
    pruned := pruned + gone;
    if pruned = 0 and cardinality(found_runs.large) > 0 then
        pruned := lockgate.prune_run_rows(found_runs.large[1], p_page);
    end if;
end $$;

comment on function lockgate.delete_run(uuid, text, text) is
    'Deletes a run that is over with all that belongs to it; answers deleted, deleting (retention takes the rest), unknown, needed (it owes messages, or the run that started it or goes on in its place is not over), or the state of one that is not over';

-- Runs that wait for another are let go of their place in the queue: the one that they wait for wakes them.
with waiting as (
    update lockgate.task_runs r set wake_at = null, rank = null
     where r.after_run is not null and r.status = 'queued' and r.claim_id is null and r.leader_term is null
       and exists (select from lockgate.task_runs e where e.id = r.after_run and e.finished_at is null)
    returning r.after_run
)
update lockgate.task_runs e set awaited = w.runs
  from (select after_run, count(*) as runs from waiting group by after_run) w
 where e.id = w.after_run;

do $$ begin
    revoke all on function lockgate.wake_behind(uuid), lockgate.lead_past(uuid) from public;
    if exists (select 1 from pg_roles where rolname = 'lockgate_engine') then
        grant execute on function lockgate.wake_behind(uuid) to lockgate_engine;
    end if;
    if exists (select 1 from pg_roles where rolname = 'lockgate_reader') then
        grant select (continues, awaited) on lockgate.task_runs to lockgate_reader;
    end if;
end $$;
