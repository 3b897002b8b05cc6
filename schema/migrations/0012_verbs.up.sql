-- What the six verbs need beyond the tables: regrouping recovered items, and finding rivals for an item.

-- read_rival_batches: made batches have no plan that keeps their items apart; callers claim ascending as a rule, so
-- few rows lie at or above a claim's first item.
create index run_batches_made on lockgate.run_batches (run_id, last_id) where step is null;

create function lockgate.dissolve_batches(p_run uuid, p_seqs integer[], p_for integer) returns integer
language plpgsql volatile security definer set search_path = pg_catalog, pg_temp as $$
declare
    gone integer;
begin
    -- The caller holds the run's lock and records every item again in the same transaction.
    with dissolved as (
        delete from lockgate.run_batches
         where run_id = p_run and seq = any (p_seqs) and status = 'recoverable' and step is null
        returning seq
    )
    insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status, reason)
    select 'batch', p_run, seq, 'recoverable', 'split', format('regrouped for batch %s', p_for)
      from dissolved order by seq;
    get diagnostics gone = row_count;
    if gone <> cardinality(p_seqs) then
        raise exception 'batches of run % changed while they were regrouped; nothing was changed', p_run
            using errcode = 'serialization_failure', hint = 'try again';
    end if;
    return gone;
end $$;
comment on function lockgate.dissolve_batches(uuid, integer[], integer) is
    'Deletes recoverable batches made by claim_batch whose items the caller records anew in the same transaction';
revoke all on function lockgate.dissolve_batches(uuid, integer[], integer) from public;

comment on column lockgate.task_runs.claim_token is
    'Grows with every claim of the run; in a run that its caller drives, with every claim of a batch';

do $$ begin
    if exists (select 1 from pg_roles where rolname = 'lockgate_engine') then
        grant execute on function lockgate.dissolve_batches(uuid, integer[], integer) to lockgate_engine;
    end if;
end $$;
