"""Azure Functions on one machine: Microsoft's worker library under a thin host. See docs/functions-host.md."""
