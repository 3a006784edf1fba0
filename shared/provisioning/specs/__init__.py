"""One pure spec per Azure resource of a cluster; `cluster.py` puts them into a graph."""
