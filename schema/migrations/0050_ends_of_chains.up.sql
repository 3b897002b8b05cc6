-- The last of a chain may be gone before the first: who asks by the first is told that there is no such run, as where
-- retention took the last, and not that the first completed with nothing.

create or replace function lockgate.lead_past(p_run uuid) returns boolean
language plpgsql volatile set search_path = pg_catalog, pg_temp as $$
begin
    perform from lockgate.task_runs r join lockgate.task_runs x on x.id in (r.continues, r.continued_as)
      where r.id = p_run for no key update of x nowait;
    -- Nothing is behind the last one: whoever went on as it has gone on, and says so.
    update lockgate.task_runs b set continued_as = r.continued_as
      from lockgate.task_runs r where r.id = p_run and b.id = r.continues and r.continued_as is not null;
    update lockgate.task_runs a set continues = r.continues
      from lockgate.task_runs r where r.id = p_run and a.id = r.continued_as;
    return true;
exception when lock_not_available then
    return false;
end $$;

do $$
declare
    before text := 'n.workflow is distinct from run.workflow';
    was text := pg_get_functiondef('lockgate.run_invariants(uuid)'::regprocedure);
begin
    if strpos(was, before) = 0 then raise exception 'run_invariants is not as it was'; end if;
    -- One that is gone was deleted, or is older than is kept.
    execute replace(was, before, 'n.workflow <> run.workflow');
end $$;
