-- An overrun counts only where nothing was recorded: code that records something each time is slow, and goes on.
comment on column lockgate.task_runs.overruns is
    'How often in a row its code ran longer than max_attempt of its queue and recorded nothing; null: not, or not since it recorded something or waited';
