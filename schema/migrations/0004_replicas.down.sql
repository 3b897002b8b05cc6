drop table lockgate.leader_lease;
drop table lockgate.replicas;
