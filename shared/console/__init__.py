"""The web console's static files and what its pages read."""
