-- Puts the items of a batch that kills its holders into two; each half may kill once before it is split in turn.
-- A run that somebody has locked is left to the next sweep.
with open_run as (
    select id from lockgate.task_runs where id = $1 and finished_at is null for no key update skip locked
), run as (
    update lockgate.task_runs r set last_batch_seq = r.last_batch_seq + 2 from open_run where r.id = open_run.id
    returning r.last_batch_seq - 2 as base
), parent as (
    update lockgate.run_batches b
       set status = 'split', lease_until = null, delivered_bits = null, finished_at = clock_timestamp()
      from run
     where b.run_id = $1 and b.seq = $2 and b.claim_token = $3 and b.status = 'claimed'
       and b.lease_until < clock_timestamp()
    returning b.run_id, b.seq, b.step, b.claim_token, b.claimed_by, run.base
), half as (
    select p.run_id, p.base + h.at::integer as seq, p.step, p.seq as parent_seq, h.first_id, h.last_id, h.n_items, h.ids, h.bits
      from parent p,
           unnest($4::bigint[], $5::bigint[], $6::integer[], $7::bytea[], $8::bytea[]) with ordinality
               h (first_id, last_id, n_items, ids, bits, at)
), halves as (
    insert into lockgate.run_batches (run_id, seq, step, status, first_id, last_id, n_items, parent_seq, attempts, delivered_bits)
    select run_id, seq, step, 'recoverable', first_id, last_id, n_items, parent_seq, $9, bits from half
), ids as (
    insert into lockgate.run_batch_ids (run_id, seq, ids)
    select run_id, seq, ids from half where ids is not null
), halves_audit as (
    insert into lockgate.transitions (entity, run_id, batch_seq, to_status, reason)
    select 'batch', run_id, seq, 'recoverable', format('half of batch %s', parent_seq) from half
)
insert into lockgate.transitions (entity, run_id, batch_seq, from_status, to_status, token, replica, reason)
select 'batch', run_id, seq, 'claimed', 'split', claim_token, claimed_by, 'kills its workers' from parent
