"""What the random tester writes: bytes that name the operation they come from."""

from __future__ import annotations

import random
from typing import Final

_BLOB_BYTES: Final = 1 << 20
_BLOB: Final = random.Random(20261122).randbytes(_BLOB_BYTES)
PAYLOAD_BYTES_MAX: Final = _BLOB_BYTES // 2


def payload(token: int, size: int) -> bytes:
    """The bytes operation number `token` writes: different ones for neighbours, the same ones for ever."""
    start = token * 4099 % (_BLOB_BYTES - PAYLOAD_BYTES_MAX)
    return _BLOB[start : start + size]
