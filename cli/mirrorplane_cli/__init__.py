"""The command line of the control plane. Standard library only."""
