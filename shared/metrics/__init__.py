"""What the control plane tells Prometheus: names in one table, values from the board and two short lists."""
