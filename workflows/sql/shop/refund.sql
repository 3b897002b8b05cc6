-- Refunds what was charged under the key, and refuses what might still be.
insert into shop.payments as p (key, order_id, cents, refunded_at) values ($1, $2, $3, clock_timestamp())
on conflict (key) do update set refunded_at = coalesce(p.refunded_at, excluded.refunded_at)
