"""The replication engine: file-system front, wire, replica, resync."""
