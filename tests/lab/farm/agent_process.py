"""One agent of a farm in a directory of its own: `python agent_process.py ROOT`; otherwise what the service runs."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from mirror_agent.contract import FarmConfiguration
from mirror_agent.eventlog import EventLog
from mirror_agent.farm.supervisor import FarmSupervisor
from mirror_agent.net.identity import load_agent_file
from mirror_agent.paths import Paths


def main() -> None:
    paths = Paths(Path(sys.argv[1]))
    log = EventLog(paths.events)
    agent = load_agent_file(paths)
    assert isinstance(agent.configuration, FarmConfiguration), agent.configuration
    try:
        asyncio.run(FarmSupervisor(agent, agent.configuration, paths=paths, log=log).run())
    finally:
        log.close()


if __name__ == "__main__":
    main()
