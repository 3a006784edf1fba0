"""What the control plane's API promises, independent of the trigger that carries it: requests in, answers out."""
