-- Takes items from the stock, if there are so many and the order has none of them; no row: there are not, or it has.
with taken as (
    update shop.stock set available = available - $3
     where item = $2 and available >= $3
       and not exists (select from shop.reservations where order_id = $1 and released_at is null)
    returning item
)
insert into shop.reservations as r (order_id, item, quantity) select $1, taken.item, $3 from taken
on conflict (order_id) do update set item = excluded.item, quantity = excluded.quantity, released_at = null
