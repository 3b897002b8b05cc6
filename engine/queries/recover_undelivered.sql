-- Takes rows from holders whose lease has ended; the test of the clock is in the update itself. They are due at once.
with stale as (
    select m.command_type, m.id
      from lockgate.undelivered_messages m
     where m.status = 'claimed' and m.lease_until < (select clock_timestamp())
     order by m.command_type, m.id
     limit $1
       for no key update skip locked
), recovered as (
    update lockgate.undelivered_messages m
       set status = 'due', claim_id = null, claimed_by = null, lease_until = null
      from stale, lockgate.undelivered_messages was
     where m.command_type = stale.command_type and m.id = stale.id and was.command_type = m.command_type
       and was.id = m.id and m.status = 'claimed' and m.lease_until < clock_timestamp()
    returning m.id, m.run_id, m.batch_seq, m.claim_token, was.claimed_by
)
insert into lockgate.transitions (entity, key, run_id, batch_seq, from_status, to_status, token, replica, reason)
select 'undelivered', id::text, run_id, batch_seq, 'claimed', 'due', claim_token, claimed_by, 'lease ended' from recovered
