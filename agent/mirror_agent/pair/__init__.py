"""A pair of nodes without a control plane: founding, admission of the other node, access for people."""
