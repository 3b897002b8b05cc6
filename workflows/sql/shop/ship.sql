-- An order leaves the house.
insert into shop.shipments (order_id, address) values ($1, $2)
