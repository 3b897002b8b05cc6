-- Starts a page of runs. Rings the replicas with its commit when that is asked for; such commits wait for each other.
select to_jsonb(lockgate.start_runs($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)),
       case when $15 then pg_notify('lockgate_wake', 'start') end
