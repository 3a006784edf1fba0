"""Files that survive a kill: written beside, flushed, then renamed over the old one; readable by the owner only."""

import os
import tempfile
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Replaces `path` in one step with mode 0600. After a crash the old or the new content is there."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
