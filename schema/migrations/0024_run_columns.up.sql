-- What runs are started with besides their input, and what they belong to. All of it is null for an ordinary run, which
-- costs it a bit each.

alter table lockgate.task_runs
    add column parent_id uuid,
    add column parent_path text collate "C",
    add column depth smallint check (depth between 1 and 64),
    add column continued_as uuid,
    add column undoing boolean,
    add column tenant text check (tenant <> ''),
    add column limit_key text check (limit_key <> ''),
    add column debounce_key text check (debounce_key <> ''),
    add column attributes jsonb check (jsonb_typeof(attributes) = 'object'),
    add column forked_from uuid;

comment on column lockgate.task_runs.parent_id is 'Run whose code started it; null: nobody''s child';
comment on column lockgate.task_runs.parent_path is 'Step of the parent that started it';
comment on column lockgate.task_runs.depth is 'How many runs stand above it; null: none';
comment on column lockgate.task_runs.continued_as is 'Run that goes on in its place; null: none';
comment on column lockgate.task_runs.undoing is 'It is being stopped, and its code undoes what it did first; null: not';
comment on column lockgate.task_runs.tenant is 'On whose behalf it runs, for fair queues; null: nobody''s';
comment on column lockgate.task_runs.limit_key is 'Key of the limits of its queue that hold for each key; null: none';
comment on column lockgate.task_runs.debounce_key is 'A later start under this key replaces it while it is queued; null: none, or claimed';
comment on column lockgate.task_runs.attributes is 'By what it is found: an object of strings, numbers and booleans; null: nothing';
comment on column lockgate.task_runs.forked_from is 'Run whose steps it began with; null: none';
