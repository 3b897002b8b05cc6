-- Somebody is asked for an approval.
insert into shop.approvals (expense_id, cents, asked) values ($1, $2, $3)
