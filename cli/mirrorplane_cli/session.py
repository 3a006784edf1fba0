"""What every command gets: the control plane, the screen, time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mirrorplane_cli.api import ControlPlane
from mirrorplane_cli.show import Screen


@dataclass(frozen=True)
class Session:
    api: ControlPlane
    screen: Screen
    now_s: Callable[[], float] = field(default=time.monotonic)
    sleep: Callable[[float], None] = field(default=time.sleep)
