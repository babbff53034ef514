#!/bin/sh
# MongoDB wire protocol on 27017, with SCRAM and users, kept in PostgreSQL. Same variables as the official mongo image.
set -eu
[ -z "${MONGO_INITDB_ROOT_PASSWORD_FILE:-}" ] || MONGO_INITDB_ROOT_PASSWORD=$(cat "$MONGO_INITDB_ROOT_PASSWORD_FILE")
: "${MONGO_INITDB_ROOT_USERNAME:=root}" "${MONGO_INITDB_ROOT_PASSWORD:?}"
d=/data/db; b=/usr/lib/postgresql/18/bin; mkdir -p $d /run/postgresql; chown postgres: $d /run/postgresql; chmod 700 $d
as() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
if [ ! -s $d/PG_VERSION ]; then
  umask 077; printf '%s\n' "$MONGO_INITDB_ROOT_PASSWORD" > /run/pw; chown postgres: /run/pw
  as $b/initdb -D $d -U "$MONGO_INITDB_ROOT_USERNAME" --pwfile=/run/pw -A scram-sha-256 --auth-local=trust -E UTF8 --locale=C.UTF-8 >/dev/null; rm /run/pw
  { echo 'host all all 127.0.0.1/32 trust'; echo 'host all all ::1/128 trust'; cat $d/pg_hba.conf; } > /run/hba; cat /run/hba > $d/pg_hba.conf
  printf "%s\n" "shared_preload_libraries = 'pg_cron,pg_documentdb_core,pg_documentdb'" "cron.database_name = 'postgres'" >> $d/postgresql.conf
fi
# After a kill the number in it may be that of a health check by now, and PostgreSQL would take it for a server.
rm -f $d/postmaster.pid
as $b/pg_ctl -D $d -w -s -l $d/log start
psql -qU "$MONGO_INITDB_ROOT_USERNAME" -h /run/postgresql postgres -c 'CREATE EXTENSION IF NOT EXISTS documentdb CASCADE' 2>/dev/null
FERRETDB_TELEMETRY=disable as ferretdb --postgresql-url="postgres://$MONGO_INITDB_ROOT_USERNAME@127.0.0.1:5432/postgres" --listen-addr=:27017 --debug-addr=- --state-dir=/tmp & f=$!
trap 'kill $f; as $b/pg_ctl -D $d -m fast -s stop; exit 0' TERM INT
wait $f
