comment on column lockgate.task_runs.overruns is
    'How often in a row its code ran longer than max_attempt of its queue; null: not';
