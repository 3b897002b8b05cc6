-- Gives places to runs that were claimed before their queue had limits.
select lockgate.hold_places()
