"""From a desired cluster to its Azure resources: pure specs, and a reconciler that does one idempotent step per tick."""
