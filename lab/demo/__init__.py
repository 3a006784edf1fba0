"""The whole story in the lab: provision by HTTP, write, lose the primary, count the writes. `make demo` runs it."""
