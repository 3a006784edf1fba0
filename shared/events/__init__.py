"""Platform events: from the raw delivery to a recorded event and to facts. Pure but for `handle`."""
