-- Starts runs that are claimed from their first moment on, by the replica in whose process they are started; answers when.
with born as materialized (
    -- What lockgate.acting_user says of whoever acts for nobody else; asking it would be a quarter of what the statement costs.
    select clock_timestamp() as at, session_user::text as nobody
), started as (
    insert into lockgate.task_runs (id, workflow, status, params, origin_id, code_version, deadline_at, pace_per_s, traceparent,
        attributes, actor, created_at, started_at, claimed_at, claim_token, claim_id, claimed_by, lease_until)
    -- The ordinary version is not written down.
    select u.id, u.workflow, 'running', u.params, u.id, nullif(u.code_version, 1), b.at + make_interval(secs => u.deadline_s),
           u.pace_per_s, u.traceparent, u.attributes,
           case when u.actor is null then b.nobody else lockgate.acting_user(u.actor) end, b.at, b.at, b.at, 1, $10, $11,
           b.at + make_interval(secs => $12)
      from born b
     cross join unnest($1::uuid[], $2::text[], $3::bytea[], $4::integer[], $5::double precision[], $6::integer[], $7::text[],
                       $8::jsonb[], $9::text[])
           u (id, workflow, params, code_version, deadline_s, pace_per_s, traceparent, attributes, actor)
)
select at from born
