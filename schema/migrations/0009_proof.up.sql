-- The proof: what was planned, what became of it, and what does not add up.
create view lockgate.v_run_proof as
select r.id as run_id, r.workflow, r.status,
       coalesce(p.items, 0) + coalesce(b.unplanned, 0) as planned,
       coalesce(b.delivered, 0) + coalesce(u.delivered, 0) as delivered,
       coalesce(u.undelivered, 0) as undelivered,
       coalesce(u.dead, 0) as dead,
       coalesce(u.discarded, 0) as discarded,
       coalesce(b.skipped, 0) as skipped,
       coalesce(b.vanished, 0) as vanished,
       coalesce(b.open, 0) as open,
       coalesce(p.items, 0) + coalesce(b.unplanned, 0)
         = coalesce(b.delivered, 0) + coalesce(u.stored, 0) + coalesce(b.skipped, 0) + coalesce(b.vanished, 0)
           + coalesce(b.open, 0) as adds_up
  from lockgate.task_runs r
  left join lateral (select sum(s.planned_items)::bigint as items from lockgate.run_steps s where s.run_id = r.id) p on true
  left join lateral (
      select sum(x.delivered)::bigint as delivered, sum(x.skipped)::bigint as skipped, sum(x.vanished)::bigint as vanished,
             sum(x.n_items) filter (where x.step is null)::bigint as unplanned,
             sum(x.n_items) filter (where x.status <> 'done')::bigint as open
        from lockgate.run_batches x where x.run_id = r.id and x.status <> 'split') b on true
  left join lateral (
      select count(*) as stored,
             count(*) filter (where m.status = 'delivered') as delivered,
             count(*) filter (where m.status in ('due', 'refused', 'claimed')) as undelivered,
             count(*) filter (where m.status = 'dead') as dead,
             count(*) filter (where m.status = 'discarded') as discarded
        from lockgate.undelivered_messages m where m.run_id = r.id) u on true
 -- Of a run whose rows are being deleted nothing can be proved.
 where r.pruning_since is null;

comment on view lockgate.v_run_proof is
    'planned = delivered + undelivered + dead + discarded + skipped + vanished + open, per run; delivered includes what was redelivered';
comment on column lockgate.v_run_proof.run_id is 'The run';
comment on column lockgate.v_run_proof.workflow is 'Its workflow';
comment on column lockgate.v_run_proof.status is 'Its state';
comment on column lockgate.v_run_proof.planned is 'Items planned, or claimed by number when the run has no plan';
comment on column lockgate.v_run_proof.delivered is 'Items acknowledged by the broker, at once or redelivered';
comment on column lockgate.v_run_proof.undelivered is 'Items stored and not settled: due, refused or being redelivered';
comment on column lockgate.v_run_proof.dead is 'Items on which redelivery gave up';
comment on column lockgate.v_run_proof.discarded is 'Items an operator gave up';
comment on column lockgate.v_run_proof.skipped is 'Items for which the workflow made no message';
comment on column lockgate.v_run_proof.vanished is 'Items whose row was gone when read';
comment on column lockgate.v_run_proof.open is 'Items of unfinished batches; 0 in a completed run';
comment on column lockgate.v_run_proof.adds_up is 'Whether the sum holds';

create function lockgate.batch_summary(b lockgate.run_batches) returns text
language sql immutable set search_path = pg_catalog, pg_temp as $$
    -- What the audit row of a finished batch says; null when every item was delivered.
    select case when b.delivered <> b.n_items then format('delivered %s, refused %s, unknown %s, skipped %s, vanished %s',
        b.delivered, b.refused, b.unknown, b.skipped, b.vanished) end
$$;
comment on function lockgate.batch_summary(lockgate.run_batches) is
    'The outcome counts of a finished batch in words, as its audit row has them; null: all delivered';

create function lockgate.batch_exceptions(p_run uuid) returns table (batch_seq integer, outcome text, item_id bigint)
language sql stable set search_path = pg_catalog, pg_temp as $$
    select b.seq, x.outcome, d.id
      from lockgate.run_batches b
     cross join lateral (values ('refused', b.refused_ids), ('unknown', b.unknown_ids),
                                ('skipped', b.skipped_ids), ('vanished', b.vanished_ids)) x (outcome, packed)
     cross join lateral lockgate.decode_ids(b.first_id, x.packed) d (id)
     where b.run_id = p_run and b.status = 'done' and x.packed is not null
$$;
comment on function lockgate.batch_exceptions(uuid) is
    'Items of finished batches whose first outcome was not delivered, with that outcome';

create function lockgate.proof_problems(p_run uuid)
returns table (problem text, batch_seq integer, item_id bigint, detail text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    -- As the owner: it reads all of the undelivered rows, and shows nothing of what is in them.
    with batches as (select * from lockgate.run_batches b where b.run_id = p_run),
    leaves as (select * from batches where status <> 'split'),
    exceptions as materialized (select * from lockgate.batch_exceptions(p_run)),
    stored as (select * from lockgate.undelivered_messages m where m.run_id = p_run),
    pruned as (select r.pruning_since from lockgate.task_runs r where r.id = p_run and r.pruning_since is not null)
    select 'pruned', null::integer, null::bigint, format('retention has been deleting its rows since %s', pruning_since) from pruned
    union all
    select x.* from (
    select 'sum', null::integer, null::bigint,
           format('planned %s, accounted for %s', p.planned,
                  p.delivered + p.undelivered + p.dead + p.discarded + p.skipped + p.vanished + p.open)
      from lockgate.v_run_proof p where p.run_id = p_run and not p.adds_up
    union all
    select 'plan', null, null, format('step %s planned %s items, its batches hold %s', s.path, s.planned_items, coalesce(l.n, 0))
      from lockgate.run_steps s
      left join lateral (select sum(n_items) as n from leaves where step = s.path) l on true
     where s.run_id = p_run and s.planned_items <> coalesce(l.n, 0)
    union all
    select 'open', l.seq, null, format('the run is completed, the batch is %s', l.status)
      from leaves l join lockgate.task_runs r on r.id = p_run where r.status = 'completed' and l.status <> 'done'
    union all
    select 'overlap', o.seq, o.first_id, format('batch %s already reaches item %s', o.before_seq, o.before_last)
      from (select seq, first_id, lag(seq) over w as before_seq, lag(last_id) over w as before_last
              from leaves where step is not null window w as (partition by step order by first_id, seq)) o
     where o.before_last >= o.first_id
    union all
    select 'range', seq, null, format('%s items between %s and %s', n_items, first_id, last_id)
      from leaves l where n_items > last_id::numeric - first_id + 1
        or (n_items < last_id::numeric - first_id + 1) <> exists (select 1 from lockgate.run_batch_ids i where i.run_id = p_run and i.seq = l.seq)
    union all
    select 'count', seq, null, format('%s items, outcomes sum to %s', n_items, delivered + refused + unknown + skipped + vanished)
      from leaves where status = 'done' and delivered + refused + unknown + skipped + vanished <> n_items
    union all
    select 'list', l.seq, null, format('%s: count %s, listed %s', x.outcome, x.counted, coalesce(e.listed, 0))
      from leaves l
     cross join lateral (values ('refused', l.refused), ('unknown', l.unknown), ('skipped', l.skipped), ('vanished', l.vanished)) x (outcome, counted)
      left join (select c.batch_seq, c.outcome, count(*) as listed from exceptions c group by 1, 2) e
        on e.batch_seq = l.seq and e.outcome = x.outcome
     where l.status = 'done' and x.counted <> coalesce(e.listed, 0)
    union all
    select 'double', e.batch_seq, e.item_id, 'has more than one outcome' from exceptions e
     group by e.batch_seq, e.item_id having count(*) > 1
    union all
    select 'foreign', e.batch_seq, e.item_id, format('%s, but not an item of the batch', e.outcome)
      from exceptions e join leaves l on l.seq = e.batch_seq where e.item_id not between l.first_id and l.last_id
    union all
    select 'not_stored', e.batch_seq, e.item_id, format('%s, but there is no undelivered row for it', e.outcome)
      from exceptions e
     where e.outcome in ('refused', 'unknown')
       and not exists (select 1 from stored s where s.batch_seq = e.batch_seq and s.item_id = e.item_id)
    union all
    select 'not_counted', s.batch_seq, s.item_id, format('undelivered row %s, but its batch does not count it', s.id)
      from stored s
     where not exists (select 1 from exceptions e where e.batch_seq = s.batch_seq and e.item_id = s.item_id
                          and e.outcome in ('refused', 'unknown'))
    union all
    select 'audit', l.seq, null, format('%s; the audit says: %s', coalesce(lockgate.batch_summary(l.b), 'all delivered'),
                                        case when t.id is null then 'nothing of its end' else coalesce(t.reason, 'all delivered') end)
      from (select b, b.seq from lockgate.run_batches b where b.run_id = p_run and b.status = 'done') l
      left join (select distinct on (a.batch_seq) a.batch_seq, a.id, a.reason from lockgate.transitions a
                  where a.run_id = p_run and a.entity = 'batch' and a.to_status = 'done'
                  order by a.batch_seq, a.id desc) t on t.batch_seq = l.seq
     where t.id is null or t.reason is distinct from lockgate.batch_summary(l.b)
    union all
    select 'audit', s.batch_seq, s.item_id, format('undelivered row is %s, its last audited state is %s', s.status, coalesce(t.to_status, 'stored'))
      from stored s
      left join (select distinct on (a.key) a.key, a.to_status from lockgate.transitions a
                  where a.run_id = p_run and a.entity = 'undelivered' order by a.key, a.id desc) t on t.key = s.id::text
     where s.status in ('delivered', 'dead', 'discarded') and s.status is distinct from t.to_status
    ) x where not exists (select from pruned)
$$;
comment on function lockgate.proof_problems(uuid) is
    'What does not add up in a run, each with its batch and, where it is known, its item; no rows: the proof holds';
