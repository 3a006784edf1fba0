"""What leaves the node: peer heartbeats, witness record, control-plane client."""
