"""The demo's applications: what a user would write into the `application` part of a cluster."""
