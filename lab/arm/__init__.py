"""The lab's Azure Resource Manager: see docs/lab-arm.md."""
