"""Wheels of other releases, built from the sources as they are: an older one, the present one, and two that are broken.

The wire between releases is the same, so what differs is the version they say; the broken ones differ in one line.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lab.wheels import AGENT, NOT_SOURCES, build_wheel

PREVIOUS: Final = "0.0.9"
PRESENT: Final = "0.1.0"
DIES: Final = "0.1.1"  # passes its own check, and ends as soon as it is started
LACKS_A_FILE: Final = "0.1.2"  # does not even import

_MAIN: Final = "def main() -> int:\n    faulthandler.enable()"
_BROKEN: Final[Mapping[str, tuple[str, str, str]]] = {
    DIES: ("supervisor.py", _MAIN, 'def main() -> int:\n    raise SystemExit("this release does not come up")'),
    LACKS_A_FILE: ("supervisor.py", "import faulthandler\n", "import faulthandler\nimport mirror_agent.not_there\n"),
}


def release(directory: Path, scratch: Path, version: str) -> Path:
    """The wheel of `version` in `directory`."""
    copy = scratch / version
    shutil.copytree(AGENT, copy, ignore=NOT_SOURCES)
    _change(copy / "mirror_agent" / "__init__.py", f'__version__ = "{PRESENT}"', f'__version__ = "{version}"')
    if version in _BROKEN:
        name, before, after = _BROKEN[version]
        _change(copy / "mirror_agent" / name, before, after)
    build_wheel(copy, directory)
    (found,) = directory.glob(f"mirror_agent-{version}-*.whl")
    return found


def _change(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{path.name} does not hold {before!r} once"
    path.write_text(text.replace(before, after), encoding="utf-8")
