-- What was decided, and by whom.
update shop.approvals set approved = $2, decided_by = $3 where expense_id = $1
