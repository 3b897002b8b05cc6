-- Grafana logs in as it; `lockgate migrate roles` gives it the rest. Everybody who reads this knows the password.
create role lockgate_reader login password 'lockgate';
