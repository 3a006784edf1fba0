"""The decision core: who may be primary. Pure: no clock, no I/O, no randomness, no logging (checked by import-linter)."""
