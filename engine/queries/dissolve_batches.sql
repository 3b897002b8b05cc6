-- The engine may not delete; the owner's function does, and only what nobody holds.
select lockgate.dissolve_batches($1, $2, $3)
