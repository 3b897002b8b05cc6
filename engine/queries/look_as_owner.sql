-- For a login that may become the owner and has no right of its own, such as the migrator's.
set local role lockgate_owner
