"""From a desired cluster to its Azure resources: pure specs and a reconciler, one idempotent step per tick."""
