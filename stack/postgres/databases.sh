#!/usr/bin/env bash
# postgres-dwh holds three databases: datawarehouse, and two that other services keep their state in, each with a role
# that owns it and may enter no other; a role `monitor` that may read statistics and nothing else; and a role `vault`,
# which makes others, members of `pipeline`: these read and write rows, and make tables where the loads make theirs. Run
# as often as you like; the passwords of the roles follow `.env`.
#
# Address and user come as psql's own variables (PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE).
set -euo pipefail

"${PSQL:-psql}" --no-psqlrc --quiet --set ON_ERROR_STOP=1 <<'SQL'
\getenv airflow_password AIRFLOW_DB_PASSWORD
\getenv hive_password HIVE_DB_PASSWORD
\getenv monitor_password MONITOR_DB_PASSWORD
\getenv vault_password VAULT_DB_PASSWORD

select format('create role %I login', role) from (values ('airflow'), ('hive'), ('monitor'), ('vault')) as wanted (role)
where not exists (select from pg_roles where rolname = role) \gexec
alter role airflow password :'airflow_password';
alter role hive password :'hive_password';
alter role monitor password :'monitor_password';
grant pg_monitor to monitor;

alter role vault createrole password :'vault_password';
select 'create role pipeline' where not exists (select from pg_roles where rolname = 'pipeline') \gexec
grant pg_read_all_data, pg_write_all_data to pipeline;
grant pipeline to vault with admin option, inherit false, set false;
-- To end the sessions of a role whose time is over.
grant pg_signal_backend to vault;
create schema if not exists staging;
grant create on schema staging to pipeline;

select format('create database %I owner %I', name, role)
from (values ('airflow_metadata', 'airflow'), ('hive_metastore', 'hive')) as wanted (name, role)
where not exists (select from pg_database where datname = name) \gexec
-- PostgreSQL lets everybody into a new database until it is told otherwise.
revoke connect, temporary on database datawarehouse, airflow_metadata, hive_metastore from public;
grant connect on database datawarehouse to monitor, vault, pipeline;
SQL
