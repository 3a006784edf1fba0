"""A Windows interpreter on Wine, and the agent's tests in it: `make windows`, docs/windows.md."""
