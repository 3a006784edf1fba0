"""A virtual machine of the lab: namespaces, a disk directory, an init process, and cloud-init. See docs/lab.md."""
