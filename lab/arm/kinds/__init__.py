"""One module per family of resource types: what Azure checks, fills in and shows for each."""
