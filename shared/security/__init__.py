"""Who calls, what the caller may do, and the identities of the nodes. Secrets are stored hashed or wrapped only."""
