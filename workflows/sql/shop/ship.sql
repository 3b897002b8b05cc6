-- An order leaves the house; no row: it has before, and was not recalled.
insert into shop.shipments as s (order_id, address) values ($1, $2)
on conflict (order_id) do update set address = excluded.address, recalled_at = null where s.recalled_at is not null
