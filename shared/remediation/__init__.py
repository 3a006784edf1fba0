"""Remediation: what may be done for a sick node (pure), and, apart from it, the doing."""
