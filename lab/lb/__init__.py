"""Azure's load balancer, approximated by HAProxy. See docs/lab.md for where they differ."""
