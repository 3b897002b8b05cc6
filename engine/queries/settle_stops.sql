-- Ends runs that were asked to stop and of which nothing is held any more. A row that somebody has locked is left to the
-- next sweep: it must not hold up the others.
with stopping as (
    select r.id
      from lockgate.task_runs r
     where r.status in ('queued', 'running', 'suspended', 'paused', 'quarantined') and r.stop_status is not null
       -- What its code undoes ends by that.
       and r.undoing is distinct from true
       -- What is held ends by its holder.
       and r.claim_id is null
     order by r.id
     limit $1
       for no key update skip locked
)
-- All are locked before the first is ended: that writes to the row of its parent, which would then be passed over.
select count(*) filter (where lockgate.settle_stop(s.id)) from unnest(array(select id from stopping)) s (id)
