"""The node's own machinery around the decision core: durable state, lanes, status."""
