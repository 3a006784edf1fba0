"""Where the lab keeps its things on disk.

Everything lies below one state directory (`.lab/` of the checkout, or `--state DIR`, or $MIRRORPLANE_LAB_STATE):

- `azurite-<version>/`, `wheelhouse/`: downloads, made once, shared by all labs of the checkout;
- `<lab id>/`: what one running lab made, removed by `down`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

REPOSITORY: Final = Path(__file__).resolve().parent.parent
STATE_VARIABLE: Final = "MIRRORPLANE_LAB_STATE"


def cache_root() -> Path:
    """The directory of the shared downloads: always in the checkout, so that a second lab downloads nothing."""
    return REPOSITORY / ".lab"


def state_root() -> Path:
    """The directory below which each lab gets its own."""
    return Path(os.environ.get(STATE_VARIABLE) or cache_root()).resolve()
