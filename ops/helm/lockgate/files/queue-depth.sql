-- What waits for a worker: batches that may be claimed, and runs whose code may go on. Counted only as far as scaling can use.
select lockgate.scaler_depth() as waiting
