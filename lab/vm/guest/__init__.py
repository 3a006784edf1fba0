"""What runs inside a VM of the lab: PID 1, service supervision, first boot, the `systemctl` shim.

These modules are copied into the VM's disk and run by the distribution's Python: standard library only, Python 3.11.
They import nothing from the rest of the lab.
"""
