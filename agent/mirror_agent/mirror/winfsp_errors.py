"""Numbers of errors as WinFsp's FUSE interface knows them: those of Microsoft's C library.

Python's `errno` on Windows has Winsock's numbers (10,000 and up) for what both have; WinFsp takes those for nothing.
"""

from __future__ import annotations

import errno
from types import MappingProxyType
from typing import Final

# errno.h of the Universal CRT. A file that is gone is told as one that is not found.
_CRT: Final = MappingProxyType(
    {
        errno.EOPNOTSUPP: 130,
        errno.ENOTCONN: 126,
        errno.ECONNABORTED: 106,
        errno.ELOOP: 114,
        errno.ESTALE: errno.ENOENT,
        errno.EDQUOT: errno.ENOSPC,
        errno.EWOULDBLOCK: errno.EAGAIN,
    }
)
_CRT_MAX: Final = 140


def number_for_library(number: int) -> int:
    return _CRT.get(number, number if number <= _CRT_MAX else errno.EIO)
