-- Tells the replicas that a run may be claimed; in a transaction of its own, since such commits wait for each other.
select pg_notify('lockgate_wake', 'start')
