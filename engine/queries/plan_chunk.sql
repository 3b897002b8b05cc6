-- Batches and cursor together, under the run's claim and only behind the cursor the chunk was read behind.
with run as (
    update lockgate.task_runs
       set last_batch_seq = last_batch_seq + cardinality($7::bigint[])
     where id = $1 and claim_token = $2 and claim_id = $3 and status = 'running' and stop_status is null
    returning last_batch_seq - cardinality($7::bigint[]) as base
), step as (
    update lockgate.run_steps
       set plan_cursor = coalesce(($8::bigint[])[cardinality($8::bigint[])], plan_cursor),
           planned_items = planned_items + (select coalesce(sum(n), 0) from unnest($9::integer[]) n),
           planned_batches = planned_batches + cardinality($7::bigint[]),
           planned_at = case when $6 then clock_timestamp() end, plan_trouble = null
     where run_id = $1 and path = $4 and planned_at is null and plan_cursor is not distinct from $5
       and exists (select 1 from run)
    returning path
), chunk as (
    select run.base + b.at::integer as seq, step.path, b.first_id, b.last_id, b.n_items, b.ids
      from run, step,
           unnest($7::bigint[], $8::bigint[], $9::integer[], $10::bytea[]) with ordinality b (first_id, last_id, n_items, ids, at)
), batches as (
    insert into lockgate.run_batches (run_id, seq, step, first_id, last_id, n_items)
    select $1, seq, path, first_id, last_id, n_items from chunk
    returning 1
), ids as (
    insert into lockgate.run_batch_ids (run_id, seq, ids)
    select $1, seq, ids from chunk where ids is not null
)
select (select count(*) from run) = 1 as held,
       (select count(*) from step) = 1 as written,
       exists (select 1 from lockgate.task_runs where id = $1 and claim_token = $2 and claim_id = $3) as mine
