"""The agent as a Windows service: `python -m mirror_agent.platform.windows_service`, started by the service manager.

The process is the service itself (`StartServiceCtrlDispatcher`), so that neither a wrapper program nor an entry in
pythonservice's registry is needed; the bootstrap registers it with `sc.exe create` under the name NAME, as LocalSystem.
Guarantee: a stop or a shutdown of the machine reaches the supervisor as SIGTERM does on Linux, and the manager is told
to wait as long as an orderly leave may take; an agent that ends by itself ends the service with its exit code, and the
manager starts it again (its failure actions).
Limits: never run on Windows. An agent that hangs is not noticed by anybody: there is no watchdog of services.
Source: Microsoft Learn, "Service Programs" (ServiceMain, HandlerEx, SERVICE_CONTROL_PRESHUTDOWN); pywin32's
`win32serviceutil` and `servicemanager`.
"""

from __future__ import annotations

import sys
from typing import Final

import servicemanager
import win32service
import win32serviceutil

from mirror_agent.platform import windows

assert sys.platform == "win32"

NAME: Final = "mirrorplane-agent"
# An orderly leave takes up to a minute (supervisor.LEAVE_DEADLINE_S), and flushing comes after it.
STOP_HINT_MS: Final = 90_000
_EX_UNAVAILABLE: Final = 1


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
        from mirror_agent import supervisor

        servicemanager.LogInfoMsg("Mirrorplane: the node agent starts")
        code = supervisor.main()
        if code:
            servicemanager.LogErrorMsg(f"Mirrorplane: the node agent ended with {code}; see the event file in state")
            self.ReportServiceStatus(win32service.SERVICE_STOPPED, win32ExitCode=_EX_UNAVAILABLE, svcExitCode=code)


def main() -> None:
    servicemanager.Initialize()
    servicemanager.PrepareToHostSingle(AgentService)
    servicemanager.StartServiceCtrlDispatcher()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
