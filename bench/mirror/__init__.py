"""The benchmark of the mirror engine: raw ext4, GlusterFS replica 2, and the mirror in both modes (`make bench`)."""
