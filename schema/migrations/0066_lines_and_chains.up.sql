-- Runs of past slots go on so many at a time, whatever runs their range has already; whoever pauses, resumes or repeats a run
-- that went on means the one that goes on in its place; a resume says why; a stop of many runs may be forced.

create function lockgate.backfill_lines(p_schedule text, p_slots timestamptz[], p_range tstzrange, p_most integer) returns uuid[]
-- Nobody knows beforehand how many there are: joined by hashes it is linear whatever is guessed.
language sql stable set search_path = pg_catalog, pg_temp set enable_nestloop = off set jit = off as $$
    with unfinished as materialized (
        select r.id, r.leader_term, case when r.started_at is null then r.after_run end as after_run,
               case when r.slot is null then (select f.slot from lockgate.task_runs f where f.id = r.chain) else r.slot end as slot
          from lockgate.task_runs r
         where r.schedule = p_schedule and r.finished_at is null
    ), counted as materialized (
        -- What was made good before, wherever: whoever asks for the next page has nothing else to know it by.
        select u.id, u.slot, u.after_run from unfinished u
         where u.leader_term is null or u.slot = any (p_slots) or u.slot <@ p_range
    ), awaited as (
        select coalesce(e.id, lockgate.waited_for(c.after_run)) as id
          from counted c left join counted e on e.id = c.after_run
         where c.after_run is not null
    )
    select coalesce(array_agg(l.id order by l.slot, l.id), '{}')
      from (select c.id, c.slot from counted c
             where not exists (select from awaited a where a.id = c.id)
             order by c.slot desc nulls last, c.id desc limit p_most) l
$$;
comment on function lockgate.backfill_lines(text, timestamptz[], tstzrange, integer) is
    'The last ones of the lines in which unfinished runs of a schedule wait for each other, oldest slot first: of those for past slots, and those that it fired for these slots or within this range; of more lines than asked for those with the newest slots';
revoke all on function lockgate.backfill_lines(text, timestamptz[], tstzrange, integer) from public;

drop function lockgate.backfill_schedule(text, timestamptz[], integer, boolean, text, timestamptz[]);
create function lockgate.backfill_schedule(name text, slots timestamptz[], at_once integer default 1,
    dry_run boolean default false, actor text default null, behind timestamptz[] default null, range tstzrange default null)
returns table (slot timestamptz, outcome text, run_id uuid)
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    plan lockgate.schedules;
    started record;
    lines uuid[] := '{}';
    earlier uuid;
    new bigint := 0;
    i integer;
begin
    -- Of two who ask for the same schedule the second sees the lines of the first.
    select * into plan from lockgate.schedules s where s.name = backfill_schedule.name for no key update;
    if not found then
        raise exception 'backfill_schedule: there is no schedule %; nothing was started', backfill_schedule.name
            using errcode = 'no_data_found';
    end if;
    if cardinality(slots) > 500 or at_once < 1 then
        raise exception 'backfill_schedule: give at most 500 slots and let at least one run at once; nothing was started'
            using errcode = 'invalid_parameter_value';
    end if;
    if not dry_run then lines := lockgate.backfill_lines(plan.name, slots, range, at_once); end if;
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
        end if;
        if outcome = 'new' then
            earlier := null;
            -- So many lines, each of which moves on when its first run is over: with one more it begins one, else it is put at
            -- the end of the one whose turn it is, and is in nobody's way until then.
            if cardinality(lines) >= at_once then
                loop
                    -- Who ends that one in this moment, or goes on as another, is waited for, and looked at again.
                    earlier := lockgate.waited_for(lines[1]);
                    update lockgate.task_runs e set awaited = coalesce(e.awaited, 0) + 1
                     where e.id = earlier and e.finished_at is null;
                    exit when found or earlier is null;
                end loop;
                lines := lines[2:];
            end if;
            update lockgate.task_runs r set after_run = earlier, wake_at = null, rank = null
             where earlier is not null and r.id = run_id;
            lines := lines || run_id;
            insert into lockgate.untold (run_id, started_by) values (started.run_id, 'schedule');
            new := new + 1;
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
comment on function lockgate.backfill_schedule(text, timestamptz[], integer, boolean, text, timestamptz[], tstzrange) is
    'Starts a run for each of at most 500 past slots of a schedule that has none: new, or found; so many of those for past slots go on at once, and with them those that it fired for these slots, or within a range of which these are a page; dry_run: missing, or found; behind is not read any more';

create or replace function lockgate.pause_run(run uuid, reason text default 'paused by an operator', actor text default null)
returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    was lockgate.task_runs := lockgate.hold_last_run(run);
begin
    if was.id is null then return 'unknown'; end if;
    if was.status not in ('queued', 'running', 'suspended') or was.stop_status is not null then return was.status; end if;
    update lockgate.task_runs r set status = 'paused', reason = pause_run.reason where r.id = was.id;
    insert into lockgate.transitions (entity, run_id, from_status, to_status, actor, reason)
    values ('run', was.id, was.status, 'paused', lockgate.acting_user(pause_run.actor), pause_run.reason);
    perform pg_notify('lockgate_wake', 'stop');
    return 'paused';
end $$;
comment on function lockgate.pause_run(uuid, text, text) is
    'Pauses a run, or the one that goes on in its place: nothing more of it is claimed until it is resumed; batches in flight are finished';

drop function lockgate.resume_run(uuid, text);
create function lockgate.resume_run(run uuid, actor text default null, reason text default 'resumed') returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    was lockgate.task_runs := lockgate.hold_last_run(run);
    next_status text;
    next_wake timestamptz;
begin
    if was.id is null then return 'unknown'; end if;
    if was.status not in ('paused', 'quarantined') then return was.status; end if;
    next_status := case when was.started_at is null then 'queued' else 'running' end;
    -- A run that had begun looks at once what came while it was paused, whatever it waited for.
    next_wake := case when was.driven_by = 'engine' and was.started_at is null then greatest(was.wake_at, clock_timestamp())
                      when was.driven_by = 'engine' then clock_timestamp() end;
    update lockgate.task_runs r
       set status = next_status, reason = null, attempts = 0, wake_seq = r.wake_seq + 1,
           wake_at = next_wake, rank = next_wake - r.priority * interval '15 seconds'
     where r.id = was.id;
    insert into lockgate.transitions (entity, run_id, from_status, to_status, actor, reason)
    values ('run', was.id, was.status, next_status, lockgate.acting_user(resume_run.actor),
            coalesce(resume_run.reason, 'resumed'));
    perform pg_notify('lockgate_wake', 'run');
    return next_status;
end $$;
comment on function lockgate.resume_run(uuid, text, text) is
    'Resumes a paused or quarantined run, or the one that goes on in its place, for a reason that is recorded';

drop function lockgate.act_on_run(text, uuid, text, text);
create function lockgate.act_on_run(p_act text, p_run uuid, p_reason text, p_actor text, p_force boolean default false)
returns text
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    return case p_act
        -- Their children the sweep stops: a page holds no more locks than it has runs.
        when 'cancel' then (select s.state from lockgate.stop_last_run(p_run,
            coalesce(p_reason, 'cancelled by an operator'), lockgate.acting_user(p_actor), p_force) s)
        when 'pause' then lockgate.pause_run(p_run, coalesce(p_reason, 'paused by an operator'), p_actor)
        when 'resume' then lockgate.resume_run(p_run, p_actor, p_reason)
        when 'delete' then lockgate.delete_run(p_run, p_reason, p_actor)
        when 'retry' then (select case a.outcome when 'new' then 'retried' else a.outcome end
            from lockgate.repeat_run(lockgate.new_id(), p_run, 'retry', null, null, true, p_reason, p_actor) a) end;
end $$;
comment on function lockgate.act_on_run(text, uuid, text, text, boolean) is
    'Does one act to one run; answers what the act''s own function does';
revoke all on function lockgate.act_on_run(text, uuid, text, text, boolean) from public;

-- Parts of long functions: what each says, and what it is to say.
do $$
declare
    change record;
    was text;
begin
    for change in select * from (values
        -- Whoever asks again while another run has the singleton key hears the same; only a race for a debounce key passes.
        ('try_start_new_run', E'when p_debounce_key is not null then \'busy\'',
         E'when p_debounce_key is not null\n'
         '            and not exists (select from lockgate.task_runs h\n'
         '                             where h.singleton_key = p_singleton_key\n'
         '                               and h.status in (\'queued\', \'running\', \'suspended\', \'paused\', \'quarantined\')\n'
         '                               and (h.workflow, h.debounce_key) is distinct from (p_workflow, p_debounce_key)) then \'busy\''),
        ('repeat_run', E'    told bigint := 0;\n',
         E'    told bigint := 0;\n'
         '    of_itself boolean := p_from is not null and lockgate.find_step(p_run, p_from) is not null;\n'),
        ('repeat_run', E'    select * into was from lockgate.task_runs r where r.id = p_run for share;\n',
         E'    loop\n'
         '        -- The one that goes on in its place is meant, unless it has the step that is named.\n'
         '        if not of_itself then p_run := lockgate.last_run(p_run); end if;\n'
         '        select * into was from lockgate.task_runs r where r.id = p_run for share;\n'
         '        exit when not found or of_itself or was.continued_as is null;\n'
         '    end loop;\n'),
        ('find_runs', E'p_act in (\'cancel\', \'pause\', \'resume\')', E'p_act in (\'cancel\', \'force\', \'pause\', \'resume\')'),
        ('find_runs', E'                      when \'pause\' then r.stop_status is null',
         E'                      -- Those too that are undoing, or cannot.\n'
         '                      when \'force\' then r.finished_at is null and r.undoing is distinct from false\n'
         '                      when \'pause\' then r.stop_status is null'),
        ('act_on_runs', 'after uuid DEFAULT NULL::uuid,', 'after uuid DEFAULT NULL::uuid, force boolean DEFAULT false,'),
        ('act_on_runs', E'    perform lockgate.check_run_filter(filter);\n',
         E'    if force and act <> \'cancel\' then\n'
         '        raise exception \'act_on_runs: only a cancel can be forced; nothing was changed\'\n'
         '            using errcode = \'invalid_parameter_value\';\n'
         '    end if;\n'
         '    perform lockgate.check_run_filter(filter);\n'),
        ('act_on_runs', 'lockgate.find_runs(act, filter, after, 100000)',
         E'lockgate.find_runs(case when force then \'force\' else act end, filter, after, 100000)'),
        ('act_on_runs', 'lockgate.find_runs(act, filter, after, page)',
         E'lockgate.find_runs(case when force then \'force\' else act end, filter, after, page)'),
        ('act_on_runs', E'when \'cancel\' then \'{cancelled,stopping}\'::text[]',
         E'when \'cancel\' then case when force then \'{cancelled,failed,stopping}\' else \'{cancelled,stopping}\' end::text[]'),
        ('act_on_runs', 'lockgate.act_on_run(act, found.id, reason, actor)',
         'lockgate.act_on_run(act, found.id, reason, actor, coalesce(force, false))'))
        c (name, before, after)
    loop
        select pg_get_functiondef(p.oid) into strict was from pg_proc p
         where p.pronamespace = 'lockgate'::regnamespace and p.proname = change.name;
        if strpos(was, change.before) = 0 then raise exception '% is not as it was', change.name; end if;
        if change.before like 'after uuid%' then
            drop function lockgate.act_on_runs(text, jsonb, text, text, boolean, integer, uuid);
        end if;
        execute replace(was, change.before, change.after);
    end loop;
end $$;
comment on function lockgate.act_on_runs(text, jsonb, text, text, boolean, integer, uuid, boolean) is
    'Cancels, pauses, resumes, deletes or retries a page of at most 500 runs that fit a filter, or as many as one bounded look finds; next: there may be more, ask again with it as after; dry_run: only counts them; force: cancels without undoing, also those that are undoing';
comment on function lockgate.repeat_run(uuid, uuid, text, text, bytea, boolean, text, text) is
    'Starts a run that begins with the steps of one that is over, or of the one that goes on in its place unless it has the step that is named, under an id made by the caller, so that asking again is safe; answers new, found, or why not: unknown, pruned, not_over, no_code, completed, no_step, ambiguous, too_large, held';
comment on function lockgate.retry_run(uuid, text, text, text) is
    'Starts a run that does what one that is over did, from the step that failed or from the one named (path or name): earlier steps are not done again, messages keep their ids; of one that went on as others the last is meant, unless it has the step that is named; answers the new run';
comment on function lockgate.fork_run(uuid, jsonb, text, boolean, text, text) is
    'Starts a run like one that is over, with this input if one is given, from the step named or from the beginning; its messages have new ids unless they are to be kept; of one that went on as others the last is meant, unless it has the step that is named; answers the new run';

do $$
declare
    role text;
begin
    revoke all on function lockgate.backfill_schedule(text, timestamptz[], integer, boolean, text, timestamptz[], tstzrange),
        lockgate.resume_run(uuid, text, text),
        lockgate.act_on_runs(text, jsonb, text, text, boolean, integer, uuid, boolean) from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator') loop
        execute format('grant execute on function
            lockgate.backfill_schedule(text, timestamptz[], integer, boolean, text, timestamptz[], tstzrange),
            lockgate.resume_run(uuid, text, text),
            lockgate.act_on_runs(text, jsonb, text, text, boolean, integer, uuid, boolean) to %I', role);
    end loop;
end $$;
