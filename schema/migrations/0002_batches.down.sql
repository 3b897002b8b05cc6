drop table lockgate.run_batch_ids;
drop table lockgate.run_batches;
