-- What does not add up in a run, batch by batch.
select to_jsonb(p) from lockgate.proof_problems($1) p order by p.batch_seq nulls first, p.item_id nulls first, p.problem limit $2
