-- What a regrouping leaves over stays recorded, as recoverable as it was.
with rest as (
    select * from unnest($2::integer[], $3::bigint[], $4::bigint[], $5::integer[], $6::smallint[], $7::bytea[])
        r (seq, first_id, last_id, n_items, attempts, ids)
), kept as (
    insert into lockgate.run_batches (run_id, seq, status, first_id, last_id, n_items, attempts)
    select $1, seq, 'recoverable', first_id, last_id, n_items, attempts from rest
    returning seq
), listed as (
    insert into lockgate.run_batch_ids (run_id, seq, ids)
    select $1, seq, ids from rest where ids is not null
)
insert into lockgate.transitions (entity, run_id, batch_seq, to_status, replica, reason)
select 'batch', $1, seq, 'recoverable', $8, format('left over by batch %s', $9::integer) from kept
