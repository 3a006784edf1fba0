"""Event Grid on one machine: topics, subscriptions to webhooks, delivery at least once. See docs/lab-arm.md."""
