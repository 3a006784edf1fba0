"""What the node answers: probe, node API, test page."""
