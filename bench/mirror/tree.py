"""The trees that are unpacked: 2,300 small files in 180 directories, or a fifth of it; the same bytes every time."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path
from typing import Final

FILES: Final = 2300
# For the far wire, where GlusterFS needs 10 ms and more for a file: the ratio is the same, the run is not half an hour.
FILES_FEW: Final = 460
_DIRECTORIES: Final = 180
_SEED: Final = 20
# Sizes as in a source tree: half of the files below 4 KiB, some of 100 KiB.
_MEDIAN_LOG: Final = 8.3
_SPREAD: Final = 1.1
_SIZE_BYTES_MAX: Final = 200_000


def archive_path(directory: Path, files: int) -> Path:
    return directory / f"tree-{files}.tar"


def write_archive(directory: Path, files: int) -> None:
    path = archive_path(directory, files)
    chance = random.Random(_SEED)
    content = chance.randbytes(_SIZE_BYTES_MAX)
    folders = ["tree"]
    while len(folders) < _DIRECTORIES * files // FILES:
        folders.append(f"{chance.choice(folders[-40:])}/d{len(folders)}")
    with tarfile.open(path, "w") as archive:
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for number in range(files):
            size = min(_SIZE_BYTES_MAX, int(chance.lognormvariate(_MEDIAN_LOG, _SPREAD)))
            entry = tarfile.TarInfo(f"{chance.choice(folders)}/f{number}")
            entry.size, entry.mode, entry.mtime = size, 0o644, 1_700_000_000
            archive.addfile(entry, io.BytesIO(content[:size]))
