"""The checker of a service asks the service manager.

The agent itself as a service is not here: Wine's manager gives a service ten seconds to report itself, which a Python
does not keep there on a busy machine (docs/limits.md).
"""

from __future__ import annotations

import sys

import pytest
from mirror_agent.contract import Checker, CheckerKind

if sys.platform == "win32":
    import pywintypes
    from mirror_agent.app.check_service import ServiceCheck, service_state

assert sys.platform == "win32"


async def test_a_service_that_is_not_there_is_a_finding() -> None:
    found = await ServiceCheck(Checker(name="no", kind=CheckerKind.PROCESS, unit="no such service", timeout_s=60.0))()
    assert not found.healthy
    with pytest.raises(pywintypes.error):
        service_state("no such service")
