#!/bin/sh
# Same variables as the official images (also NAME_FILE). No argument or a flag: the image's $SERVER; a server's name: that, set up; else: run it as it is.
set -eu
env_or_file() { eval "f=\${$1_FILE:-}"; [ -z "$f" ] || eval "$1=\$(cat \"\$f\")"; eval "$1=\${$1:-}"; }
q() { printf %s "$1" | sed "s/'/''/g"; }                       # quote for SQL; no backslashes in test passwords
case ${1:--} in -*) set -- "$SERVER" "$@" ;; esac; kind=$1; shift
case $kind in
mysqld|mariadbd)
  # Where clients look for the socket differs between versions.
  d=/var/lib/mysql; mkdir -p $d /run/mysqld; rm -rf /run/mariadbd; ln -s /run/mysqld /run/mariadbd; chown mysql:mysql $d /run/mysqld
  for v in MYSQL_ROOT_PASSWORD MYSQL_DATABASE MYSQL_USER MYSQL_PASSWORD; do env_or_file $v; done
  set -- --user=mysql --datadir=$d --socket=/run/mysqld/mysqld.sock --bind-address=0.0.0.0 "$@"
  if [ ! -d $d/mysql ]; then
    if [ $kind = mysqld ]; then mysqld --initialize-insecure --user=mysql --datadir=$d
    else mariadb-install-db --user=mysql --datadir=$d --skip-test-db --auth-root-authentication-method=socket >/dev/null; fi
    umask 077                                                  # MariaDB: one statement per line in an init file
    { echo "ALTER USER 'root'@'localhost' IDENTIFIED BY '$(q "$MYSQL_ROOT_PASSWORD")';"
      echo "CREATE USER 'root'@'%' IDENTIFIED BY '$(q "$MYSQL_ROOT_PASSWORD")';"
      echo "GRANT ALL ON *.* TO 'root'@'%' WITH GRANT OPTION;"
      [ -z "$MYSQL_DATABASE" ] || echo "CREATE DATABASE \`$MYSQL_DATABASE\`;"
      [ -z "$MYSQL_USER" ] || echo "CREATE USER '$MYSQL_USER'@'%' IDENTIFIED BY '$(q "$MYSQL_PASSWORD")';"
      [ -z "$MYSQL_USER" ] || [ -z "$MYSQL_DATABASE" ] || echo "GRANT ALL ON \`$MYSQL_DATABASE\`.* TO '$MYSQL_USER'@'%';"
    } > /run/mysqld/init.sql; chown mysql: /run/mysqld/init.sql
    set -- "$@" --init-file=/run/mysqld/init.sql
  fi
  exec $kind "$@" ;;
postgres)
  for v in POSTGRES_PASSWORD POSTGRES_USER POSTGRES_DB; do env_or_file $v; done
  u=${POSTGRES_USER:-postgres}; mkdir -p "$PGDATA" /run/postgresql; chown postgres: "$PGDATA" /run/postgresql; chmod 700 "$PGDATA"
  as() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
  if [ ! -s "$PGDATA/PG_VERSION" ]; then
    printf '%s\n' "$POSTGRES_PASSWORD" > /run/pw; chown postgres: /run/pw
    as initdb -D "$PGDATA" -U "$u" --pwfile=/run/pw -A scram-sha-256 --auth-local=trust -E UTF8 --locale=C.UTF-8 >/dev/null; rm /run/pw
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    [ "${POSTGRES_DB:=$u}" = postgres ] || echo "CREATE DATABASE \"$POSTGRES_DB\"" | as postgres --single -j -D "$PGDATA" postgres >/dev/null
  fi
  exec setpriv --reuid=postgres --regid=postgres --init-groups postgres -D "$PGDATA" -c listen_addresses='*' "$@" ;;
redis-server|valkey-server)
  u=${kind%-server}
  env_or_file REDIS_PASSWORD; mkdir -p /data; chown $u: /data; cd /data
  [ -z "$REDIS_PASSWORD" ] || set -- --requirepass "$REDIS_PASSWORD" "$@"
  exec setpriv --reuid=$u --regid=$u --init-groups $kind --bind 0.0.0.0 --protected-mode no --dir /data "$@" ;;
health)
  case $SERVER in                                              # "ping" succeeds also when access is denied
  mysqld) exec mysqladmin -h127.0.0.1 --protocol=tcp -unobody ping ;;
  mariadbd) exec mariadb-admin -h127.0.0.1 --protocol=tcp -unobody ping ;;
  postgres) exec pg_isready -q -h 127.0.0.1 ;;
  *) ${SERVER%-server}-cli ping | grep -qE 'PONG|NOAUTH' ;; esac ;;
*) exec "$kind" "$@" ;;
esac
