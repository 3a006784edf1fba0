"""What the control plane talks about, as frozen values: cluster specification and record, operation, node state,
events, principals. Pure: no clock, no I/O, no randomness; times and identities are handed in."""
