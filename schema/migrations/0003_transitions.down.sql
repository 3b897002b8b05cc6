drop table lockgate.transitions;
