"""Azure Monitor and Resource Health of the lab: what the load balancers' probes and the machines' power really say."""
