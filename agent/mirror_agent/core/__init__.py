"""The decision core: who may be primary. No clock, no I/O, no randomness, no logging (checked by import-linter)."""
