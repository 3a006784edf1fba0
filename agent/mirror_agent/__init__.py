"""The Mirrorplane node agent: one of the two halves of a mirror cluster. Installed on the VMs as its own wheel."""

__version__ = "0.1.0"
