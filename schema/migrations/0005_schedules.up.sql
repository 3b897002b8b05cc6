-- Schedules are rows: edited at run time by SQL or CLI, fired by the leader from the database clock.
create table lockgate.schedules (
    name text primary key check (name <> ''),
    workflow text not null check (workflow <> ''),
    cron text not null,
    timezone text not null default 'UTC',
    params bytea not null default '{}',
    dst_gap text not null default 'run_after' check (dst_gap in ('run_after', 'skip')),
    dst_fold text not null default 'first' check (dst_fold in ('first', 'second', 'both')),
    catch_up text not null default 'last' check (catch_up in ('skip', 'last', 'all')),
    catch_up_max integer not null default 10 check (catch_up_max between 1 and 1000),
    catch_up_window interval not null default '1 day' check (catch_up_window >= '0'),
    overlap text not null default 'skip' check (overlap in ('skip', 'queue', 'allow')),
    jitter interval not null default '0' check (jitter >= '0' and jitter <= '1 day'),
    pace_per_s integer check (pace_per_s > 0),
    run_deadline interval check (run_deadline > '0'),
    paused_at timestamptz,
    last_slot timestamptz,
    next_slot timestamptz,
    active_from timestamptz not null default clock_timestamp(),
    problem text,
    revision bigint not null default 1,
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp()
) with (fillfactor = 70);

-- due_schedules: what the leader looks at; rows without next_slot are new or edited.
create index schedules_due on lockgate.schedules (next_slot) where paused_at is null;

create function lockgate.touch_schedule() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    kept_by_leader constant text[] := '{next_slot,last_slot,problem,revision,updated_at}';
begin
    new.updated_at := clock_timestamp();
    if to_jsonb(new) - kept_by_leader is not distinct from to_jsonb(old) - kept_by_leader then return new; end if;
    -- Any edit makes the leader look again, and what it had read of the old row void.
    new.revision := old.revision + 1;
    new.next_slot := null;
    new.problem := null;
    if (new.cron, new.timezone, new.dst_gap, new.dst_fold) is distinct from (old.cron, old.timezone, old.dst_gap, old.dst_fold)
       or (old.paused_at is not null and new.paused_at is null) then
        -- A new rule or a resume applies from now on: what the old rule had missed is not fired by the new one.
        new.active_from := clock_timestamp();
    end if;
    return new;
end $$;
create trigger touch_schedule before update on lockgate.schedules
    for each row execute function lockgate.touch_schedule();

create function lockgate.audit_schedule() returns trigger
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
    return null;
end $$;
-- After the change: an insert that turns into an update is one change, not two.
create trigger audit_schedule after insert or update or delete on lockgate.schedules
    for each row execute function lockgate.audit_schedule();

comment on table lockgate.schedules is 'When which workflow is started';
comment on column lockgate.schedules.name is 'Name of the schedule';
comment on column lockgate.schedules.workflow is 'Workflow to start';
comment on column lockgate.schedules.cron is 'Cron pattern in local time of the zone';
comment on column lockgate.schedules.timezone is 'IANA time zone';
comment on column lockgate.schedules.params is 'Input of its runs, exact bytes of a JSON document';
comment on column lockgate.schedules.dst_gap is 'Fixed local time that does not exist: run_after the gap, or skip';
comment on column lockgate.schedules.dst_fold is 'Fixed local time that happens twice: first, second or both';
comment on column lockgate.schedules.catch_up is 'Missed slots: skip all, fire the last, or all up to catch_up_max';
comment on column lockgate.schedules.catch_up_max is 'Most missed slots fired at once when catch_up is all';
comment on column lockgate.schedules.catch_up_window is 'Slots older than this never fire';
comment on column lockgate.schedules.overlap is 'A slot comes while a run of the schedule is not over: skip it, queue behind it, or allow both';
comment on column lockgate.schedules.jitter is 'Runs start up to this long after their slot, by a hash of name and slot';
comment on column lockgate.schedules.pace_per_s is 'Messages per second of its runs; null: no limit';
comment on column lockgate.schedules.run_deadline is 'Its runs fail when not over after this long; null: no limit';
comment on column lockgate.schedules.paused_at is 'Since when nothing fires; null: active';
comment on column lockgate.schedules.last_slot is 'Newest slot that was fired or passed over; nothing at or before it fires again, even when its run was pruned';
comment on column lockgate.schedules.next_slot is 'When it fires next; null: the leader works it out at its next tick';
comment on column lockgate.schedules.active_from is 'Slots before this instant are not considered';
comment on column lockgate.schedules.problem is 'Why it cannot fire, such as a bad pattern';
comment on column lockgate.schedules.revision is 'Grows with every edit; the leader fires only what it read';
comment on column lockgate.schedules.created_at is 'When it was made';
comment on column lockgate.schedules.updated_at is 'When it was changed last';
comment on function lockgate.touch_schedule() is 'Keeps revision, next_slot and active_from true when a schedule is edited';
comment on function lockgate.audit_schedule() is 'Writes the audit of a schedule''s life';
