"""The agent as a Windows service: `python -m mirror_agent.platform.windows_service`, started by the service manager.

The process is the service itself (`StartServiceCtrlDispatcher`), so that neither a wrapper program nor an entry in
pythonservice's registry is needed; the bootstrap registers it with `sc.exe create` under the name NAME, as LocalSystem.
Guarantee: a stop or a shutdown of the machine reaches the supervisor as SIGTERM does on Linux, and the manager is told
to wait as long as an orderly leave may take; an agent that ends by itself ends the service with its exit code, and the
manager starts it again (its failure actions).
Limits: never run on Windows. An agent that hangs ends itself (`windows.watch_itself`), which the manager sees.
Source: Microsoft Learn, "Service Programs" (ServiceMain, HandlerEx, SERVICE_CONTROL_PRESHUTDOWN); pywin32's
`win32serviceutil` and `servicemanager`.
"""

from __future__ import annotations

import msvcrt
import os
import sys
from typing import Final

import servicemanager
import win32api
import win32service
import win32serviceutil

from mirror_agent.paths import NODE_PATHS, private_directory
from mirror_agent.platform import windows

assert sys.platform == "win32"

NAME: Final = "mirrorplane-agent"
# An orderly leave takes up to a minute with the usual stopTimeoutS, and flushing comes after it.
STOP_HINT_MS: Final = 90_000
_EX_UNAVAILABLE: Final = 1
OUTPUT: Final = "agent-output.log"
MAX_OUTPUT_BYTES: Final = 1024 * 1024


class AgentService(win32serviceutil.ServiceFramework):
    _svc_name_ = NAME
    _svc_display_name_ = "Mirrorplane node agent"
    _svc_description_ = "Synchronous replication and failover for the applications of this node"

    def GetAcceptedControls(self) -> int:
        # A shutdown would give five seconds; its announcement gives as long as we ask for.
        accepted: int = super().GetAcceptedControls()  # type: ignore[no-untyped-call]
        return accepted | win32service.SERVICE_ACCEPT_PRESHUTDOWN

    def SvcOtherEx(self, control: int, event_type: int, data: object) -> int:
        if control == win32service.SERVICE_CONTROL_PRESHUTDOWN:
            self.SvcStop()
        return 0

    def SvcStop(self) -> None:
        self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING, waitHint=STOP_HINT_MS)
        windows.ask_to_stop()

    def SvcDoRun(self) -> None:
        _keep_output()
        from mirror_agent import supervisor

        servicemanager.LogInfoMsg("Mirrorplane: the node agent starts")
        code = supervisor.main()
        if code:
            servicemanager.LogErrorMsg(f"Mirrorplane: the node agent ended with {code}; see the event file in state")
            self.ReportServiceStatus(win32service.SERVICE_STOPPED, win32ExitCode=_EX_UNAVAILABLE, svcExitCode=code)


def _keep_output() -> None:
    """A service has no standard streams: what the interpreter and the mirror's engine say goes to a file."""
    if sys.stderr is not None:
        return
    file = private_directory(NODE_PATHS.log_dir) / OUTPUT
    if file.exists() and file.stat().st_size > MAX_OUTPUT_BYTES:
        file.replace(file.with_name(f"{OUTPUT}.1"))
    stream = open(file, "a", buffering=1, encoding="utf-8", errors="replace")  # noqa: SIM115 - until the process ends
    os.set_inheritable(stream.fileno(), True)
    for number in (win32api.STD_OUTPUT_HANDLE, win32api.STD_ERROR_HANDLE):
        win32api.SetStdHandle(number, msvcrt.get_osfhandle(stream.fileno()))
    sys.stdout = sys.stderr = stream


def main() -> None:
    servicemanager.Initialize()
    servicemanager.PrepareToHostSingle(AgentService)
    servicemanager.StartServiceCtrlDispatcher()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
