-- What the connected role may not do of what a replica does; no rows: nothing is missing.
select to_jsonb(format('%s on %s', w.privilege, w.place))
  from (values ('task_runs', 'select'), ('task_runs', 'insert'), ('task_runs', 'update'), ('run_steps', 'select'),
               ('run_steps', 'insert'), ('run_steps', 'update'), ('signals', 'select'), ('signals', 'update'),
               ('run_batches', 'select'), ('run_batches', 'insert'), ('run_batches', 'update'),
               ('run_batch_ids', 'insert'), ('transitions', 'insert'), ('replicas', 'insert'), ('replicas', 'update'),
               ('leader_lease', 'insert'), ('leader_lease', 'update'), ('schedules', 'update'),
               ('undelivered_messages', 'insert'), ('undelivered_messages', 'update'),
               ('untold', 'insert'), ('untold', 'delete')) w (place, privilege)
 where not has_schema_privilege('lockgate', 'usage')
    or not has_table_privilege(format('lockgate.%I', w.place), w.privilege)
