-- What must never be, whatever died when: no rows, at any moment, after any fault. One statement, one snapshot.
select 'I01' as invariant, singleton_key as subject, format('%s unfinished runs have this singleton key', count(*)) as detail
  from lockgate.task_runs where singleton_key is not null and finished_at is null
 group by singleton_key having count(*) > 1
union all
select 'I02', format('%s at %s', schedule, slot), format('fired %s times', count(*))
  from lockgate.task_runs where slot is not null group by schedule, slot having count(*) > 1
union all
select 'I03', format('%s/%s', b.run_id, b.seq), format('the run is %s, the batch %s', r.status, b.status)
  from lockgate.task_runs r join lockgate.run_batches b on b.run_id = r.id
 where (r.status = 'completed' and b.status not in ('done', 'split'))
    or (r.finished_at is not null and b.status = 'claimed')
union all
select 'I04', p.run_id::text, format('planned %s, accounted for %s, open %s', p.planned,
       p.delivered + p.undelivered + p.dead + p.discarded + p.skipped + p.vanished + p.open, p.open)
  from lockgate.v_run_proof p where not p.adds_up or (p.status = 'completed' and p.open <> 0)
union all
-- Batches made by a split are not the plan's; what they hold is.
select 'I05', format('%s %s', s.run_id, s.path), format('planned %s items in %s batches, there are %s in %s',
       s.planned_items, s.planned_batches, b.items, b.batches)
  from lockgate.run_steps s
 cross join lateral (
     select coalesce(sum(x.n_items) filter (where x.status <> 'split'), 0) as items,
            count(*) filter (where x.parent_seq is null) as batches
       from lockgate.run_batches x where x.run_id = s.run_id and x.step = s.path) b
 where s.kind = 'fan_out' and (s.planned_items, s.planned_batches) is distinct from (b.items, b.batches)
union all
select 'I06', format('%s/%s', run_id, seq), format('begins at %s, another batch reaches %s', first_id, before)
  from (select run_id, seq, first_id,
               max(last_id) over (partition by run_id, step order by first_id, seq
                                  rows between unbounded preceding and 1 preceding) as before
          from lockgate.run_batches where status <> 'split' and step is not null) x
 where before >= first_id
union all
select 'I07', format('%s/%s', run_id, seq), format('%s items, outcomes sum to %s', n_items,
       delivered + refused + unknown + skipped + vanished)
  from lockgate.run_batches
 where status = 'done' and delivered + refused + unknown + skipped + vanished is distinct from n_items
union all
select 'I08', format('%s/%s', b.run_id, b.seq), format('refused %s and unknown %s, stored %s', b.refused, b.unknown, count(u.id))
  from lockgate.run_batches b
  left join lockgate.undelivered_messages u on u.run_id = b.run_id and u.batch_seq = b.seq
 where b.status = 'done' group by b.run_id, b.seq having count(u.id) <> b.refused + b.unknown
union all
select 'I09', format('%s/%s', run_id, seq), format('%s by %s with token %s until %s', status, claimed_by, claim_token, lease_until)
  from lockgate.run_batches
 where (status = 'claimed' and (claim_token = 0 or claim_id is null or claimed_by is null or lease_until is null))
    or (status in ('free', 'recoverable') and (claim_id is not null or claimed_by is not null or lease_until is not null))
union all
select 'I09', id::text, format('%s, claimed by %s with token %s until %s', status, claimed_by, claim_token, lease_until)
  from lockgate.task_runs
 where claim_id is not null and (claim_token = 0 or claimed_by is null or lease_until is null or finished_at is not null)
union all
-- A row's lock is taken before its audit is written, so for one row the order of ids is the order of commits.
select 'I10', format('%s %s/%s', entity, run_id, batch_seq), format('%s under token %s after token %s', to_status, token, newest)
  from (select entity, run_id, batch_seq, to_status, token,
               max(token) over (partition by entity, run_id, batch_seq order by id
                                rows between unbounded preceding and 1 preceding) as newest
          from lockgate.transitions where entity in ('batch', 'run') and token is not null) x
 where token < newest
union all
select 'I11', r.id::text, format('%s, ended %s times', r.status, count(t.id))
  from lockgate.task_runs r
  left join lockgate.transitions t
    on t.run_id = r.id and t.entity = 'run' and t.to_status in ('completed', 'failed', 'cancelled')
 group by r.id having count(t.id) <> case when r.finished_at is null then 0 else 1 end
union all
select 'I12', format('%s/%s', b.run_id, b.seq), format('%s, done or split %s times', b.status, count(t.id))
  from lockgate.run_batches b
  left join lockgate.transitions t
    on t.run_id = b.run_id and t.batch_seq = b.seq and t.entity = 'batch' and t.to_status in ('done', 'split')
 group by b.run_id, b.seq having count(t.id) <> case when b.status in ('done', 'split') then 1 else 0 end
union all
select 'I13', format('term %s', term), format('elected at %s, %s', at, reason)
  from lockgate.transitions
 where entity = 'leader' and to_status = 'elected' and reason like 'the lease before ended at %'
   and substring(reason from 'ended at (.*)$')::timestamptz > at
union all
select 'I13', format('term %s', term), format('elected %s times', count(*))
  from lockgate.transitions where entity = 'leader' and to_status = 'elected' group by key, term having count(*) > 1
union all
select 'I14', run_id::text, format('started under term %s after term %s', term, newest)
  from (select run_id, term, max(term) over (order by id rows between unbounded preceding and 1 preceding) as newest
          from lockgate.transitions where entity = 'run' and from_status is null and term is not null) x
 where term < newest
union all
select 'I15', id::text, 'delivered, but where is not recorded'
  from lockgate.undelivered_messages
 where status = 'delivered' and (kafka_partition is null or kafka_offset is null)
union all
-- Stored in the statement that finishes the batch, so a row of an unfinished batch was written by nobody's claim.
select 'I16', u.id::text, format('item %s of batch %s/%s, which is %s', u.item_id, u.run_id, u.batch_seq, coalesce(b.status, 'not there'))
  from lockgate.undelivered_messages u
  left join lockgate.run_batches b on b.run_id = u.run_id and b.seq = u.batch_seq
 where u.run_id is not null
   and (b.status is distinct from 'done' or u.step is distinct from b.step
        or u.item_id is null or u.item_id not between b.first_id and b.last_id)
union all
select 'I17', format('%s/%s', run_id, batch_seq), format('from %s to %s, but it was %s', from_status, to_status, was)
  from (select run_id, batch_seq, from_status, to_status, id,
               lag(to_status) over (partition by run_id, batch_seq order by id) as was
          from lockgate.transitions where entity = 'batch') x
 where was is distinct from from_status and not (was is null and from_status in ('free', 'recoverable'))
union all
-- A claim is audited once, at its end, by its holder or by whoever recovered it.
select 'I18', r.id::text, format('claimed %s times, %s ends of %s claims audited', r.claim_token, t.ends, t.claims)
  from lockgate.task_runs r
 cross join lateral (
     select count(*) as ends, count(distinct x.token) as claims
       from lockgate.transitions x where x.run_id = r.id and x.entity = 'run' and x.since is not null) t
 where r.driven_by = 'engine'
   and (t.ends <> t.claims or t.claims <> r.claim_token - case when r.claim_id is null then 0 else 1 end)
union all
select 'I19', format('%s %s', r.id, s.path), 'the run is completed, the step is open'
  from lockgate.task_runs r join lockgate.run_steps s on s.run_id = r.id
 where r.status = 'completed' and s.status = 'open' and s.kind <> 'child'
union all
select 'I20', r.id::text, 'suspended, but nothing of it is open'
  from lockgate.task_runs r
 where r.status = 'suspended' and r.claim_id is null and r.wake_at is null and r.stop_status is null
   and not exists (select from lockgate.run_steps s where s.run_id = r.id and s.status = 'open')
union all
select 'I21', format('%s/%s', g.run_id, g.seq), format('taken by %s, which is %s', g.consumed_by, coalesce(s.kind || ' ' || s.status, 'not there'))
  from lockgate.signals g
  left join lockgate.run_steps s on s.run_id = g.run_id and s.path = g.consumed_by
 where g.consumed_by is not null
   and ((s.kind, s.status) is distinct from ('signal', 'completed') or s.result is distinct from g.payload)
union all
select 'I21', format('%s %s', run_id, consumed_by), format('took %s signals', count(*))
  from lockgate.signals where consumed_by is not null group by run_id, consumed_by having count(*) > 1
union all
-- A child and the step that waits for it come into being together.
select 'I23', c.id::text, format('child of %s at %s, where there is %s', c.parent_id, c.parent_path, coalesce(s.kind, 'nothing'))
  from lockgate.task_runs c
  left join lockgate.run_steps s on s.run_id = c.parent_id and s.path = c.parent_path
 where c.parent_id is not null and s.kind is distinct from 'child'
union all
select 'I23', format('%s %s', s.run_id, s.path), format('waits for %s unfinished or last children', count(c.id))
  from lockgate.run_steps s
  left join lockgate.task_runs c on c.parent_id = s.run_id and c.parent_path = s.path and c.continued_as is null
 where s.kind = 'child' and s.status = 'open'
 group by s.run_id, s.path having count(c.id) <> 1
union all
-- Which of a chain are gone, only retention and people know, and neither is about where this is asked.
select 'I24', r.id::text, format('went on as %s, which is %s', r.continued_as, coalesce(n.workflow, 'not there'))
  from lockgate.task_runs r
  left join lockgate.task_runs n on n.id = r.continued_as
 where r.continued_as is not null and (r.status <> 'completed' or n.workflow is distinct from r.workflow)
