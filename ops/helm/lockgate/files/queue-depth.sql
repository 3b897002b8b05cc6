-- What waits for a worker: batches that may be claimed, and runs whose code may go on and that no limit of their queue
-- holds back. Counted only as far as scaling can use.
select lockgate.scaler_depth() as waiting
