-- A consistent plan that was not finished starts anew: its snapshot is gone and nothing of it was claimed.
select lockgate.discard_plan($1, $2, $3, $4)
