"""From facts to a verdict, pure: no clock, no I/O. Every branch is a named rule."""
