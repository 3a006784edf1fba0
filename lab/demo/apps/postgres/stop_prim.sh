bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
data=/data/postgres/cluster
[ -f "$data/postmaster.pid" ] || exit 0
setpriv --reuid postgres --regid postgres --init-groups "$bin/pg_ctl" -D "$data" -m fast -w -t 15 stop >/dev/null
