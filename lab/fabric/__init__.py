"""The physical side of the lab: namespaces, bridges, NAT, security groups, public addresses. See docs/lab.md."""
