pkill -TERM -f "$MODULE_DIR/ledger.py" || exit 0
for _ in $(seq 100); do
    pgrep -f "$MODULE_DIR/ledger.py" >/dev/null || exit 0
    sleep 0.05
done
echo "the ledger does not end"
exit 1
