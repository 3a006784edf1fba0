"""What the judge raises; a module of its own because exceptions are not compiled (see `compiled`)."""

from __future__ import annotations


class Violation(AssertionError):
    """An invariant does not hold; the message says which and where."""
