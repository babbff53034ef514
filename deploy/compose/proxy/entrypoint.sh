#!/bin/sh
set -eu
set -- -f /etc/apache2/proxy.conf -DFOREGROUND
[ "${EXEC:-0}" = 0 ] || set -- "$@" -DEXEC
[ "${QUIESCE:-0}" = 0 ] || set -- "$@" -DQUIESCE
[ "${RESTORE:-0}" = 0 ] || set -- "$@" -DRESTORE
exec apache2 "$@"
