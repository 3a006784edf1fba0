"""Rolling changes: another agent, or a configuration that needs a new beginning, one node at a time."""
