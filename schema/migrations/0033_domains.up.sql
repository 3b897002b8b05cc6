-- What a column may hold is said by its type where it concerns that column alone: a check of the table is read and looked at
-- by every statement that writes any column of it, a type by those that write this one.

create domain lockgate.label as text check (value <> '');
create domain lockgate.counted as integer check (value > 0);
create domain lockgate.depth as smallint check (value between 1 and 64);
create domain lockgate.priority as smallint check (value between 0 and 20);
create domain lockgate.driver as text check (value in ('engine', 'caller'));
create domain lockgate.hold as text check (value in ('code', 'run'));
create domain lockgate.stop as text check (value in ('failed', 'cancelled'));
create domain lockgate.attributes as jsonb
    constraint attributes_check check (jsonb_typeof(value) = 'object')
    constraint attributes_fit check (octet_length(value::text) <= 65536 and not jsonb_path_exists(value,
        'strict $.*?((@.type() != "string" && @.type() != "number") && @.type() != "boolean")'));
create domain lockgate.step_kind as text check (value in ('fan_out', 'step', 'undoable', 'transaction', 'sleep', 'signal',
    'child', 'version', 'select', 'publish'));
create domain lockgate.step_status as text check (value in ('open', 'completed', 'failed', 'dropped'));
create domain lockgate.audited as text check (value in ('run', 'batch', 'schedule', 'undelivered', 'leader', 'queue'));

comment on domain lockgate.label is 'A name or key: not empty';
comment on domain lockgate.counted is 'A number from 1 on';
comment on domain lockgate.depth is 'How many runs stand above a child';
comment on domain lockgate.priority is 'From 0 to 20';
comment on domain lockgate.driver is 'Whose code drives a run: engine or caller';
comment on domain lockgate.hold is 'How long a run holds its place: code or run';
comment on domain lockgate.stop is 'How a run that is to stop ends: failed or cancelled';
comment on domain lockgate.attributes is 'An object of strings, numbers and booleans, of at most 64 KiB';
comment on domain lockgate.step_kind is 'What a step is, as run_steps.kind explains';
comment on domain lockgate.step_status is 'How far a step is, as run_steps.status explains';
comment on domain lockgate.audited is 'What the audit is about, as transitions.entity explains';

alter table lockgate.task_runs
    drop constraint task_runs_attributes_check,
    drop constraint task_runs_attributes_fit,
    drop constraint task_runs_code_version_check,
    drop constraint task_runs_debounce_key_check,
    drop constraint task_runs_depth_check,
    drop constraint task_runs_driven_by_check,
    drop constraint task_runs_holds_check,
    drop constraint task_runs_idempotency_key_check,
    drop constraint task_runs_limit_key_check,
    drop constraint task_runs_pace_per_s_check,
    drop constraint task_runs_priority_check,
    drop constraint task_runs_queue_check,
    drop constraint task_runs_singleton_key_check,
    drop constraint task_runs_stop_status_check,
    drop constraint task_runs_tenant_check,
    alter column attributes type lockgate.attributes,
    alter column code_version type lockgate.counted,
    alter column debounce_key type lockgate.label,
    alter column depth type lockgate.depth,
    alter column driven_by type lockgate.driver,
    alter column holds type lockgate.hold,
    alter column idempotency_key type lockgate.label,
    alter column limit_key type lockgate.label,
    alter column pace_per_s type lockgate.counted,
    alter column priority type lockgate.priority,
    alter column queue type lockgate.label,
    alter column singleton_key type lockgate.label,
    alter column stop_status type lockgate.stop,
    alter column tenant type lockgate.label;

alter table lockgate.run_steps
    drop constraint run_steps_kind_check,
    drop constraint run_steps_status_check,
    alter column kind type lockgate.step_kind,
    alter column status type lockgate.step_status;

alter table lockgate.transitions
    drop constraint transitions_entity_check,
    alter column entity type lockgate.audited;
