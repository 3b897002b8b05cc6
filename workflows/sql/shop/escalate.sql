-- Somebody else is asked, since nobody answered.
update shop.approvals set asked = $2, escalated = true where expense_id = $1
