alter table lockgate.transitions
    alter column entity type text,
    add constraint transitions_entity_check check (entity in ('run', 'batch', 'schedule', 'undelivered', 'leader', 'queue'));

alter table lockgate.run_steps
    alter column kind type text,
    alter column status type text,
    add constraint run_steps_kind_check check (kind in ('fan_out', 'step', 'undoable', 'transaction', 'sleep', 'signal',
        'child', 'version', 'select', 'publish')),
    add constraint run_steps_status_check check (status in ('open', 'completed', 'failed', 'dropped'));

alter table lockgate.task_runs
    alter column attributes type jsonb,
    alter column code_version type integer,
    alter column debounce_key type text,
    alter column depth type smallint,
    alter column driven_by type text,
    alter column holds type text,
    alter column idempotency_key type text,
    alter column limit_key type text,
    alter column pace_per_s type integer,
    alter column priority type smallint,
    alter column queue type text,
    alter column singleton_key type text,
    alter column stop_status type text,
    alter column tenant type text,
    add constraint task_runs_attributes_check check (jsonb_typeof(attributes) = 'object'),
    add constraint task_runs_attributes_fit check (octet_length(attributes::text) <= 65536 and not jsonb_path_exists(attributes,
        'strict $.*?((@.type() != "string" && @.type() != "number") && @.type() != "boolean")')),
    add constraint task_runs_code_version_check check (code_version > 0),
    add constraint task_runs_debounce_key_check check (debounce_key <> ''),
    add constraint task_runs_depth_check check (depth between 1 and 64),
    add constraint task_runs_driven_by_check check (driven_by in ('engine', 'caller')),
    add constraint task_runs_holds_check check (holds in ('code', 'run')),
    add constraint task_runs_idempotency_key_check check (idempotency_key <> ''),
    add constraint task_runs_limit_key_check check (limit_key <> ''),
    add constraint task_runs_pace_per_s_check check (pace_per_s > 0),
    add constraint task_runs_priority_check check (priority between 0 and 20),
    add constraint task_runs_queue_check check (queue <> ''),
    add constraint task_runs_singleton_key_check check (singleton_key <> ''),
    add constraint task_runs_stop_status_check check (stop_status in ('failed', 'cancelled')),
    add constraint task_runs_tenant_check check (tenant <> '');

drop domain lockgate.label;
drop domain lockgate.counted;
drop domain lockgate.depth;
drop domain lockgate.priority;
drop domain lockgate.driver;
drop domain lockgate.hold;
drop domain lockgate.stop;
drop domain lockgate.attributes;
drop domain lockgate.step_kind;
drop domain lockgate.step_status;
drop domain lockgate.audited;
