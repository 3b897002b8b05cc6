-- Asks a run to end as failed; nothing more of it is claimed from here.
select lockgate.request_stop($1, 'failed', $2, $3)
