drop function lockgate.set_schedule;
drop function lockgate.pause_schedule(text, text, text), lockgate.resume_schedule(text, text, text),
    lockgate.remove_schedule(text, text, text);

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
    values ('schedule', coalesce(new.name, old.name), was, coalesce(now_is, 'removed'), session_user,
            case when tg_op = 'INSERT' then 'created' when tg_op = 'DELETE' then 'removed' when was = now_is then 'edited'
                 when now_is = 'paused' then 'paused' else 'resumed' end);
    perform pg_notify('lockgate_wake', 'schedule');
    return null;
end $$;
comment on function lockgate.audit_schedule() is 'Writes the audit of a schedule''s life, and rings the leader';
drop function lockgate.act_for(text, text);

create function lockgate.pause_schedule(p_name text) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    update lockgate.schedules set paused_at = clock_timestamp() where name = p_name and paused_at is null;
    return case when exists (select 1 from lockgate.schedules where name = p_name) then 'paused' else 'unknown' end;
end $$;
comment on function lockgate.pause_schedule(text) is
    'Nothing of the schedule fires until it is resumed; its runs go on. Answers paused or unknown';

create function lockgate.resume_schedule(p_name text) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    update lockgate.schedules set paused_at = null where name = p_name and paused_at is not null;
    return case when exists (select 1 from lockgate.schedules where name = p_name) then 'active' else 'unknown' end;
end $$;
comment on function lockgate.resume_schedule(text) is
    'The schedule fires again from now on; what fell due while it was paused does not. Answers active or unknown';

create function lockgate.remove_schedule(p_name text) returns text
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    delete from lockgate.schedules where name = p_name;
    return case when found then 'removed' else 'unknown' end;
end $$;
comment on function lockgate.remove_schedule(text) is
    'Removes the schedule; its runs stay and go on. Answers removed or unknown';

do $$
declare
    role text;
begin
    revoke all on function lockgate.pause_schedule(text), lockgate.resume_schedule(text), lockgate.remove_schedule(text)
        from public;
    for role in select rolname from pg_roles where rolname in ('lockgate_engine', 'lockgate_operator') loop
        execute format('grant execute on function lockgate.pause_schedule(text), lockgate.resume_schedule(text),
            lockgate.remove_schedule(text) to %I', role);
    end loop;
end $$;
