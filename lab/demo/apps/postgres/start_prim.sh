bin=$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
data=/data/postgres/cluster
as_postgres() { setpriv --reuid postgres --regid postgres --init-groups "$@"; }
cd /data/postgres
chown postgres:postgres /data/postgres
if [ ! -f "$data/PG_VERSION" ]; then
    (umask 077; od -An -N18 -tx1 /dev/urandom | tr -d ' \n' >/data/postgres/demo.password)
    as_postgres "$bin/initdb" -D "$data" --auth-local=peer --auth-host=scram-sha-256 --no-instructions >/dev/null
    echo "host demo demo 0.0.0.0/0 scram-sha-256" >>"$data/pg_hba.conf"
fi
rm -f "$data/postmaster.pid"
as_postgres "$bin/pg_ctl" -D "$data" -w -t 50 -l /data/postgres/server.log \
    -o "-c listen_addresses=* -c port=5432 -c unix_socket_directories=/tmp -c shared_buffers=64MB" start >/dev/null
if ! as_postgres psql -h /tmp -qAtc "SELECT 1 FROM pg_roles WHERE rolname = 'demo'" postgres | grep -q 1; then
    as_postgres psql -h /tmp -q -v ON_ERROR_STOP=1 postgres <<SQL
CREATE ROLE demo LOGIN PASSWORD '$(cat /data/postgres/demo.password)';
SQL
fi
if ! as_postgres psql -h /tmp -qAtc "SELECT 1 FROM pg_database WHERE datname = 'demo'" postgres | grep -q 1; then
    as_postgres psql -h /tmp -q -v ON_ERROR_STOP=1 -c "CREATE DATABASE demo OWNER demo" postgres
fi
