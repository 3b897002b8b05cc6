-- Takes items from the stock, if there are so many; no row: there are not.
with taken as (
    update shop.stock set available = available - $3 where item = $2 and available >= $3 returning item
)
insert into shop.reservations (order_id, item, quantity) select $1, taken.item, $3 from taken
