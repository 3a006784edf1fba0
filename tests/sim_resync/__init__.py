"""A simulator of what a resync may leave out.

The production code decides (`Tracker`, `CheckpointStore`, the dirty log, `choose`, `Known`, `Proof`, `Plan`);
simulated are two disks that lose what was not flushed, two clocks that jump, and the walk that carries the decisions
out. The judge is plain: after a resync that ran to its end both trees are equal.
"""
