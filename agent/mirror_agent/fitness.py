"""`python -m mirror_agent.fitness`: what an agent says of itself before it is put in place of another. Standard output:
one JSON object; exit status 0 if it can work here.

Run out of a new environment, beside the agent that serves: what runs on a node is imported and this node's own
configuration is read and checked, so that a wheel that lacks a file, a dependency, or the meaning of a field is found
while nothing has been changed. It starts nothing, writes nothing and listens nowhere.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Final

import mirror_agent
from mirror_agent.contract import CONTRACT_VERSION
from mirror_agent.net.identity import NotEnrolled, load_agent_file
from mirror_agent.paths import NODE_PATHS, Paths

# What runs as a process of its own on a node, and what is imported at first use only.
_ENTRY_POINTS: Final = (
    "mirror_agent.supervisor",
    "mirror_agent.cli",
    "mirror_agent.mirror.__main__",
    "mirror_agent.app.reaper",
    "azure.data.tables",
)


def import_everything() -> int:
    """The number of modules of this agent. Raises ImportError."""
    for name in _ENTRY_POINTS:
        importlib.import_module(name)
    return sum(1 for name in sys.modules if name.split(".")[0] == mirror_agent.__name__)


def fitness(paths: Paths = NODE_PATHS) -> dict[str, object]:
    """Raises ImportError, NotEnrolled (its message names what of the configuration does not fit)."""
    modules = import_everything()
    configuration = load_agent_file(paths).configuration
    return {
        "version": mirror_agent.__version__,
        "contract": CONTRACT_VERSION,
        "modules": modules,
        "configuration": configuration.version,
    }


def main() -> int:
    try:
        print(json.dumps(fitness()))
    except (ImportError, NotEnrolled) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
