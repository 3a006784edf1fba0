"""Names of Windows: UTF-16 in NTFS, UTF-8 on the wire and everywhere in the engine.

Guarantee: a name that passes leads to exactly one entry of a directory: no separator, no stream of a file ("a:b"), no
wildcard, nothing NTFS would change. Lone surrogates, which NTFS allows, keep their three bytes. Everything else is
refused with EINVAL and says why.
"""

from __future__ import annotations

import errno
import re
from typing import Final

NAME_UNITS_MAX: Final = 255
_FORBIDDEN: Final = re.compile(r'[\x00-\x1f"*/:<>?\\|]')


def to_utf16(name: bytes | str) -> bytes:
    """One component as NT wants it. Raises OSError EINVAL or ENAMETOOLONG."""
    try:
        text = name if isinstance(name, str) else name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise OSError(errno.EINVAL, f"the name is no UTF-8 ({error.reason}), Windows cannot have it", name) from None
    if text in ("", ".", ".."):
        raise OSError(errno.EINVAL, "this is no name of an entry", name)
    if bad := _FORBIDDEN.search(text):
        raise OSError(errno.EINVAL, f"Windows allows no {bad[0]!r} in a name", name)
    found = text.encode("utf-16-le", "surrogatepass")
    if len(found) > 2 * NAME_UNITS_MAX:
        raise OSError(errno.ENAMETOOLONG, f"the name has more than {NAME_UNITS_MAX} units of UTF-16", name)
    return found


def from_utf16(name: bytes) -> bytes:
    return name.decode("utf-16-le", "surrogatepass").encode("utf-8", "surrogatepass")


def folded(name: bytes) -> bytes:
    """Equal for all spellings that NTFS takes for one name, and for some more."""
    return name.decode("utf-8", "surrogatepass").upper().casefold().encode("utf-8", "surrogatepass")
