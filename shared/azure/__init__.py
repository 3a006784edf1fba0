"""The only place of the control plane that talks to Azure Resource Manager."""
