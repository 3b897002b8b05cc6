-- Items that may be in the log although nobody heard so: of batches handed back, and tries of redelivery.
select coalesce((select sum(b.n_items) from lockgate.transitions t
                   join lockgate.run_batches b on b.run_id = t.run_id and b.seq = t.batch_seq
                  where t.run_id = $1 and t.entity = 'batch' and t.from_status = 'claimed' and t.to_status = 'free'), 0)::bigint
     + coalesce((select sum(m.attempts + 1) from lockgate.undelivered_messages m
                  where m.run_id = $1 and m.status <> 'refused' and (m.attempts > 0 or m.status = 'delivered')), 0)::bigint
