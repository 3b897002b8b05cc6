-- Ends many runs in one commit, each under its own claim: those that complete or fail, never had a batch and set no
-- attribute, which nearly all are; see let_go_runs.sql for the others. A claim is audited here, once, as there.
with m as (
    select * from unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::bytea[], $6::text[]) with ordinality
        m (run_id, token, claim_id, act, output, reason, at)
), gone as (
    update lockgate.task_runs r
       set status = case m.act when 'complete' then 'completed' else 'failed' end, output = coalesce(m.output, r.output),
           reason = case m.act when 'fail' then m.reason else r.reason end, finished_at = clock_timestamp(),
           wake_at = null, rank = null, claim_id = null, claimed_by = null, lease_until = null, alone = null
      from m
     -- By its key also in a plan that was made when there were no runs, as in record_steps.
     where r.id = m.run_id and r.claim_token = m.token and r.claim_id is not distinct from m.claim_id
       and case when r.stop_status is null then r.status = 'running' end
    returning m.at, m.reason, r.id, r.status, r.claim_token, r.claimed_at
), audit as (
    insert into lockgate.transitions (entity, run_id, from_status, to_status, token, replica, since, reason)
    select 'run', id, 'running', status, claim_token, $7, claimed_at, reason from gone
)
select at from gone
