"""The control plane measured: heartbeats per second, the audit of large fleets, and what a cluster costs a month."""
