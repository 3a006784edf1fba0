"""The application's side of this node's system: what only those need that run, watch and cut off applications.

Apart from `mirror_agent.platform`, so that `mirrorctl` does not load it. With that module it is the one that asks which
system this is.
"""

from __future__ import annotations

import sys
from typing import Final

from mirror_agent.app.process_tree import ProcessTrees

if sys.platform == "win32":
    from mirror_agent.app.check_service import ServiceCheck as UnitCheck
    from mirror_agent.app.job_tree import JobTrees
    from mirror_agent.app.tcp_table import destroy_connections

    TREES: Final[ProcessTrees] = JobTrees()
else:
    from mirror_agent.app.check_unit import UnitCheck
    from mirror_agent.app.runner_child import RunnerChildren
    from mirror_agent.app.sock_diag import destroy_connections

    TREES: Final[ProcessTrees] = RunnerChildren()

__all__ = ["TREES", "UnitCheck", "destroy_connections"]
