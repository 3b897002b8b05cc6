-- What became of one item of a run, a row for each fan-out that has it; no row: there is no such run, or retention has begun to
-- delete it. All batches of the run are read, up to a thousand items each, and those expanded that reach over the item.
with run as (
    select r.id, r.status, r.reason, r.finished_at from lockgate.task_runs r where r.id = $1 and r.pruning_since is null
), batch as (
    -- Which of its items are acknowledged is in a bit for each, in ascending order.
    select b.*, coalesce(case when octet_length(b.delivered_bits) * 8 > p.place then get_bit(b.delivered_bits, p.place) end, 0) = 1 as acked
      from run
      join lockgate.run_batches b on b.run_id = run.id
      left join lockgate.run_batch_ids i on i.run_id = b.run_id and i.seq = b.seq
     cross join lateral (
         select case when i.ids is null then $2 - b.first_id
                     else (select count(*) from lockgate.decode_ids(b.first_id, i.ids) d (id) where d.id < $2) end as place) p
     where b.status <> 'split' and $2 between b.first_id and b.last_id
       and (i.ids is null or $2 in (select lockgate.decode_ids(b.first_id, i.ids)))
)
select jsonb_build_object('fate', f.fate, 'step', f.step, 'batch_seq', f.seq, 'at', f.at, 'replica', f.replica, 'reason', f.reason)
  from (select case when b.status = 'done' then coalesce(m.status, x.outcome, 'delivered')
                    when b.acked then 'delivered'
                    when run.finished_at is null then 'open'
                    -- Who held it may have sent it.
                    when b.claim_token > 0 or b.parent_seq is not null then 'unknown'
                    else 'not_sent' end as fate,
               b.step, b.seq, coalesce(m.finished_at, b.finished_at) as at, coalesce(m.claimed_by, b.claimed_by) as replica,
               case when b.status = 'done' then m.reason_code || ': ' || m.reason
                    when b.acked then 'acknowledged, the batch is ' || b.status
                    when run.finished_at is null then 'the batch is ' || b.status
                    else concat_ws(': ', 'the run is ' || run.status, run.reason) end as reason
          from run
         cross join batch b
          left join lockgate.undelivered_messages m on m.run_id = b.run_id and m.batch_seq = b.seq and m.item_id = $2
          left join lateral (
              select v.outcome
                from (values ('refused', b.refused_ids), ('unknown', b.unknown_ids), ('skipped', b.skipped_ids),
                             ('vanished', b.vanished_ids)) v (outcome, packed)
               where $2 in (select lockgate.decode_ids(b.first_id, v.packed))
               limit 1) x on true
        union all
        select case when exists (select from lockgate.run_steps s
                                  where s.run_id = run.id and s.kind = 'fan_out' and s.planned_at is null
                                    and (s.plan_cursor is null or s.plan_cursor < $2))
                      or (run.finished_at is null
                          and not exists (select from lockgate.run_steps s where s.run_id = run.id and s.kind = 'fan_out'))
                    then 'not_planned' else 'not_of_this_run' end, null, null, null, null, null
          from run
         where not exists (select from batch)) f
 order by f.seq
