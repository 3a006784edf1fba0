"""The application: restart scripts and checkers."""
