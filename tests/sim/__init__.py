"""The deterministic simulator: the production core against a simulated world with faults, and an independent oracle."""
