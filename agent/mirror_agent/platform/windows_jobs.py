"""Job objects: processes that Windows holds together, and ends together when the last handle of their job goes.

Nothing breaks away from these (JOB_OBJECT_LIMIT_BREAKAWAY_OK is not set), and one may lie inside another.
Source: Microsoft Learn, "Job Objects", "Nested Jobs".
"""

from __future__ import annotations

from typing import Any, Final

import pywintypes
import win32api
import win32con
import win32job

# The published types of pywin32 take handles for numbers, and CreateJobObject for a procedure.
_jobs: Final[Any] = win32job
_api: Final[Any] = win32api


class Job:
    """A job whose only handle this object has. All methods may be called from any thread and raise OSError."""

    def __init__(self) -> None:
        try:
            self._handle: Any = _jobs.CreateJobObject(None, "")
            limits = _jobs.QueryInformationJobObject(self._handle, _jobs.JobObjectExtendedLimitInformation)
            limits["BasicLimitInformation"]["LimitFlags"] = _jobs.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
            _jobs.SetInformationJobObject(self._handle, _jobs.JobObjectExtendedLimitInformation, limits)
        except pywintypes.error as error:
            raise _os_error(error) from None

    def put(self, pid: int) -> None:
        """A process, and from now on all that it starts."""
        try:
            process = _api.OpenProcess(win32con.PROCESS_SET_QUOTA | win32con.PROCESS_TERMINATE, False, pid)
            try:
                _jobs.AssignProcessToJobObject(self._handle, process)
            finally:
                process.Close()
        except pywintypes.error as error:
            raise _os_error(error) from None

    def living(self) -> list[int]:
        try:
            return [
                int(pid) for pid in _jobs.QueryInformationJobObject(self._handle, _jobs.JobObjectBasicProcessIdList)
            ]
        except pywintypes.error as error:
            raise _os_error(error) from None

    def terminate(self, code: int) -> None:
        """All at once, without asking."""
        try:
            _jobs.TerminateJobObject(self._handle, code)
        except pywintypes.error as error:
            raise _os_error(error) from None

    def keep(self) -> None:
        """The handle stays open as long as this process, whatever becomes of the object, which is of no more use. An
        interpreter that closes it at its own end would end itself there, before its exit status is known."""
        self._handle.Detach()

    def close(self) -> None:
        """What is left in it ends. Idempotent."""
        self._handle.Close()


def _os_error(error: pywintypes.error) -> OSError:
    return OSError(None, f"{error.funcname}: {error.strerror}", None, error.winerror)
