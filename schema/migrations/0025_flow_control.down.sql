drop function lockgate.list_queues(text);
drop function lockgate.resume_queue(text, text, text);
drop function lockgate.pause_queue(text, text, text);
drop function lockgate.remove_queue(text, text, text);
drop function lockgate.set_queue(text, integer, integer, double precision, integer, boolean, text, interval, text, text, boolean);
drop function lockgate.hold_places(text);
delete from lockgate.transitions where entity = 'queue';
alter table lockgate.transitions drop constraint transitions_entity_check;
alter table lockgate.transitions add constraint transitions_entity_check
    check (entity in ('run', 'batch', 'schedule', 'undelivered', 'leader'));
comment on column lockgate.transitions.entity is 'run, batch, schedule, undelivered or leader';
comment on column lockgate.transitions.key is 'Schedule name, id of an undelivered row or name of a lease';
drop index lockgate.task_runs_debounced;
drop index lockgate.task_runs_suspects;
drop index lockgate.task_runs_named;
drop index lockgate.task_runs_turns;
drop index lockgate.task_runs_going_on;
drop index lockgate.task_runs_holding;
do $$ begin
    if exists (select 1 from pg_roles where rolname = 'lockgate_reader') then
        revoke select (tenant, limit_key, debounce_key) on lockgate.task_runs from lockgate_reader;
    end if;
end $$;
alter table lockgate.task_runs drop column holds, drop column overruns;
drop table lockgate.queues;
