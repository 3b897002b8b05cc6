-- Puts the reserved items of an order back.
with released as (
    update shop.reservations set released_at = clock_timestamp()
     where order_id = $1 and released_at is null
    returning item, quantity
)
update shop.stock s set available = s.available + released.quantity from released where s.item = released.item
