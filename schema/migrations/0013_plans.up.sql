-- Planning from one snapshot: an unfinished plan is thrown away, as its snapshot is gone.
create function lockgate.discard_plan(p_run uuid, p_token bigint, p_claim_id uuid, p_path text) returns boolean
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform 1 from lockgate.task_runs
      where id = p_run and claim_token = p_token and claim_id = p_claim_id for no key update;
    if not found then return false; end if;
    perform 1 from lockgate.run_steps
      where run_id = p_run and path = p_path and consistent and planned_at is null for update;
    if not found then return false; end if;
    -- Nothing of it can have been claimed: claims wait for planned_at of a consistent step.
    delete from lockgate.run_batches where run_id = p_run and step = p_path and status = 'free' and claim_token = 0;
    update lockgate.run_steps set plan_cursor = null, planned_items = 0, planned_batches = 0
     where run_id = p_run and path = p_path;
    return true;
end $$;
revoke all on function lockgate.discard_plan(uuid, bigint, uuid, text) from public;
comment on function lockgate.discard_plan(uuid, bigint, uuid, text) is
    'Empties an unfinished consistent plan under the run''s claim; false when the claim or the plan is not as told';
do $$ begin
    if exists (select 1 from pg_roles where rolname = 'lockgate_engine') then
        grant execute on function lockgate.discard_plan(uuid, bigint, uuid, text) to lockgate_engine;
    end if;
end $$;
