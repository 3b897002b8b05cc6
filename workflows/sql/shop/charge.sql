-- Charges once, however often it is asked under the key; what was refunded under it is never charged again.
insert into shop.payments as p (key, order_id, cents, charges) values ($1, $2, $3, 1)
on conflict (key) do update set charges = greatest(p.charges, 1) where p.refunded_at is null
returning cents
