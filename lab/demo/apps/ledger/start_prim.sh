setsid /usr/bin/python3 "$MODULE_DIR/ledger.py" /data/ledger 8080 </dev/null >>/var/log/ledger.log 2>&1 &
server=$!
listening() { /usr/bin/python3 -c 'import socket; socket.create_connection(("127.0.0.1", 8080), 1).close()' 2>/dev/null; }
for _ in $(seq 200); do
    kill -0 "$server" || { echo "the ledger ended at its start; see /var/log/ledger.log"; exit 1; }
    if listening; then exit 0; fi
    sleep 0.02
done
echo "the ledger does not listen on port 8080"
exit 1
