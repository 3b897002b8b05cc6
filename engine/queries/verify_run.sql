-- A run as its verification sees it, with the topics of its undelivered rows that were or can be sent. Not one whose rows
-- retention is deleting: nothing can be proved of it.
select r.id, r.origin_id, r.status, r.created_at, r.finished_at,
       array(select distinct m.topic from lockgate.undelivered_messages m
              where m.run_id = r.id and (m.claim_token > 0 or m.payload is not null)) as topics
  from lockgate.task_runs r
 where r.id = $1 and r.pruning_since is null
