-- Operators set schedules by a function, as they pause, resume and remove them, and each of the four may say for whom and why.
create function lockgate.act_for(p_actor text, p_reason text) returns void
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform set_config('lockgate.actor', coalesce(p_actor, ''), true), set_config('lockgate.reason', coalesce(p_reason, ''), true);
end $$;
comment on function lockgate.act_for(text, text) is
    'For whom and why schedules are changed from here on in this transaction, for audit_schedule; null: nobody else, no reason';

create or replace function lockgate.audit_schedule() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    was text;
    now_is text;
begin
    if tg_op <> 'INSERT' then was := case when old.paused_at is null then 'active' else 'paused' end; end if;
    if tg_op <> 'DELETE' then now_is := case when new.paused_at is null then 'active' else 'paused' end; end if;
    if tg_op = 'UPDATE' and new.revision = old.revision then return null; end if;
    insert into lockgate.transitions (entity, key, from_status, to_status, actor, reason)
    values ('schedule', coalesce(new.name, old.name), was, coalesce(now_is, 'removed'),
            -- As acting_user says it, which not everybody may call who may write the table.
            session_user || coalesce(' for ' || nullif(nullif(current_setting('lockgate.actor', true), ''), session_user::text), ''),
            concat_ws(': ', case when tg_op = 'INSERT' then 'created' when tg_op = 'DELETE' then 'removed'
                when was = now_is then 'edited' when now_is = 'paused' then 'paused' else 'resumed' end,
                nullif(current_setting('lockgate.reason', true), '')));
    perform pg_notify('lockgate_wake', 'schedule');
    return null;
end $$;
comment on function lockgate.audit_schedule() is
    'Writes the audit of a schedule''s life, with whom and why act_for says, and rings the leader';

create function lockgate.set_schedule(
    name text, workflow text, cron text, timezone text default 'UTC', params bytea default '{}',
    dst_gap text default 'run_after', dst_fold text default 'first', catch_up text default 'last',
    catch_up_max integer default 10, catch_up_window interval default '1 day', overlap text default 'skip',
    jitter interval default '0', pace_per_s integer default null, run_deadline interval default null,
    queue text default null, priority integer default null, tenant text default null, limit_key text default null,
    attributes jsonb default null, reason text default null, actor text default null)
returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    created boolean;
begin
    begin
        perform convert_from(set_schedule.params, 'UTF8')::jsonb;
    exception when data_exception then
        raise exception 'params are no JSON document: %', sqlerrm using errcode = 'invalid_parameter_value',
            hint = 'give the bytes of one, such as convert_to(''{"day": 1}'', ''UTF8'')';
    end;
    if set_schedule.priority not between -32768 and 32767 then
        raise exception 'priority is %, and is from 0 to 20', set_schedule.priority using errcode = 'invalid_parameter_value';
    end if;
    perform lockgate.act_for(set_schedule.actor, set_schedule.reason);
    -- What is ordinary is not written down, so that setting it is no change. All else is for the table's own checks.
    insert into lockgate.schedules as s (name, workflow, cron, timezone, params, dst_gap, dst_fold, catch_up,
        catch_up_max, catch_up_window, overlap, jitter, pace_per_s, run_deadline, queue, priority, tenant, limit_key,
        attributes)
    values (set_schedule.name, set_schedule.workflow, set_schedule.cron, set_schedule.timezone, set_schedule.params,
        set_schedule.dst_gap, set_schedule.dst_fold, set_schedule.catch_up, set_schedule.catch_up_max,
        set_schedule.catch_up_window, set_schedule.overlap, set_schedule.jitter, set_schedule.pace_per_s,
        set_schedule.run_deadline, set_schedule.queue, nullif(set_schedule.priority, 0)::smallint, set_schedule.tenant,
        set_schedule.limit_key, nullif(set_schedule.attributes, '{}'))
    on conflict (name) do update
       set workflow = excluded.workflow, cron = excluded.cron, timezone = excluded.timezone, params = excluded.params,
           dst_gap = excluded.dst_gap, dst_fold = excluded.dst_fold, catch_up = excluded.catch_up,
           catch_up_max = excluded.catch_up_max, catch_up_window = excluded.catch_up_window,
           overlap = excluded.overlap, jitter = excluded.jitter, pace_per_s = excluded.pace_per_s,
           run_deadline = excluded.run_deadline, queue = excluded.queue, priority = excluded.priority,
           tenant = excluded.tenant, limit_key = excluded.limit_key, attributes = excluded.attributes
     where (s.workflow, s.cron, s.timezone, s.params, s.dst_gap, s.dst_fold, s.catch_up, s.catch_up_max,
            s.catch_up_window, s.overlap, s.jitter, s.pace_per_s, s.run_deadline, s.queue, s.priority, s.tenant,
            s.limit_key, s.attributes)
        is distinct from (excluded.workflow, excluded.cron, excluded.timezone, excluded.params, excluded.dst_gap,
            excluded.dst_fold, excluded.catch_up, excluded.catch_up_max, excluded.catch_up_window, excluded.overlap,
            excluded.jitter, excluded.pace_per_s, excluded.run_deadline, excluded.queue, excluded.priority,
            excluded.tenant, excluded.limit_key, excluded.attributes)
    returning s.revision = 1 into created;
    -- What else the caller's transaction changes is nobody else's act.
    perform lockgate.act_for(null, null);
    return case created when true then 'created' when false then 'changed' else 'unchanged' end;
end $$;
comment on function lockgate.set_schedule is
    'Makes a schedule what is given; what is not given is at its default, a pause stays. Answers created, changed or unchanged';

-- The parameters that are new have defaults: a command line of an older release calls these as it did.
drop function lockgate.pause_schedule(text), lockgate.resume_schedule(text), lockgate.remove_schedule(text);

create function lockgate.pause_schedule(name text, reason text default null, actor text default null) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform lockgate.act_for(pause_schedule.actor, pause_schedule.reason);
    update lockgate.schedules s set paused_at = clock_timestamp() where s.name = pause_schedule.name and s.paused_at is null;
    perform lockgate.act_for(null, null);
    return case when exists (select from lockgate.schedules s where s.name = pause_schedule.name) then 'paused' else 'unknown' end;
end $$;
comment on function lockgate.pause_schedule(text, text, text) is
    'Nothing of the schedule fires until it is resumed; its runs go on. Answers paused or unknown';

create function lockgate.resume_schedule(name text, reason text default null, actor text default null) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
begin
    perform lockgate.act_for(resume_schedule.actor, resume_schedule.reason);
    update lockgate.schedules s set paused_at = null where s.name = resume_schedule.name and s.paused_at is not null;
    perform lockgate.act_for(null, null);
    return case when exists (select from lockgate.schedules s where s.name = resume_schedule.name) then 'active' else 'unknown' end;
end $$;
comment on function lockgate.resume_schedule(text, text, text) is
    'The schedule fires again from now on; what fell due while it was paused does not. Answers active or unknown';

create function lockgate.remove_schedule(name text, reason text default null, actor text default null) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
#variable_conflict use_column
declare
    gone boolean;
begin
    perform lockgate.act_for(remove_schedule.actor, remove_schedule.reason);
    delete from lockgate.schedules s where s.name = remove_schedule.name;
    gone := found;
    perform lockgate.act_for(null, null);
    return case when gone then 'removed' else 'unknown' end;
end $$;
comment on function lockgate.remove_schedule(text, text, text) is
    'Removes the schedule; its runs stay and go on. Answers removed or unknown';

do $$
declare
    role text;
begin
    revoke all on function lockgate.act_for(text, text), lockgate.set_schedule, lockgate.pause_schedule(text, text, text),
        lockgate.resume_schedule(text, text, text), lockgate.remove_schedule(text, text, text) from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator') loop
        execute format('grant execute on function lockgate.set_schedule, lockgate.pause_schedule(text, text, text),
            lockgate.resume_schedule(text, text, text), lockgate.remove_schedule(text, text, text) to %I', role);
    end loop;
end $$;
