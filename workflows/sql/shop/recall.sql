-- Calls the parcel of an order back.
update shop.shipments set recalled_at = clock_timestamp() where order_id = $1 and recalled_at is null
