"""The `process` test by service of Windows: is it running?

For applications whose `start_prim` starts a service. The service's process is watched, so that its death is an event
and the test is made again at once.
Limits: the service manager answers within the checker's time-out, or the test has failed. Processes that the service
itself has started are not watched.
Source: Microsoft Learn, QueryServiceStatusEx, SERVICE_STATUS_PROCESS.
"""

from __future__ import annotations

import sys
from typing import Any, Final

import pywintypes
import win32service

from mirror_agent.app.finding import Finding
from mirror_agent.app.side_thread import SideThread
from mirror_agent.contract import Checker

assert sys.platform == "win32"

_STATES: Final = {
    win32service.SERVICE_STOPPED: "stopped",
    win32service.SERVICE_START_PENDING: "starting",
    win32service.SERVICE_STOP_PENDING: "stopping",
    win32service.SERVICE_RUNNING: "running",
    win32service.SERVICE_CONTINUE_PENDING: "continuing",
    win32service.SERVICE_PAUSE_PENDING: "pausing",
    win32service.SERVICE_PAUSED: "paused",
}


class ServiceCheck:
    def __init__(self, checker: Checker) -> None:
        assert checker.unit is not None
        self._name = checker.unit
        self._timeout_s = checker.timeout_s
        self._thread = SideThread(f"checker-{checker.name}")

    async def __call__(self) -> Finding:
        try:
            return await self._thread.call(self._ask, deadline_s=self._timeout_s)
        except TimeoutError:
            return Finding(False, f"the service manager did not answer in {self._timeout_s:g} s")

    def _ask(self) -> Finding:
        try:
            state, pid = service_state(self._name)
        except pywintypes.error as error:
            return Finding(False, f"{self._name}: {error.strerror}")
        matched = (pid,) if pid else ()
        said = _STATES.get(state, f"in state {state}")
        return Finding(state == win32service.SERVICE_RUNNING, f"{self._name} is {said}", matched)


def service_state(name: str) -> tuple[int, int]:
    """State and process id (0: none) of a service. Raises pywintypes.error."""
    services = win32service.OpenSCManager(None, None, win32service.SC_MANAGER_CONNECT)
    try:
        service = win32service.OpenService(services, name, win32service.SERVICE_QUERY_STATUS)
        try:
            status: Any = win32service.QueryServiceStatusEx(service)  # a dictionary, whatever its published type says
        finally:
            win32service.CloseServiceHandle(service)
    finally:
        win32service.CloseServiceHandle(services)
    return int(status["CurrentState"]), int(status["ProcessId"])
