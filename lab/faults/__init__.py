"""Accidents done to a real cluster in the lab, one after the other, and what a client saw. See docs/faults.md."""
