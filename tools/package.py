"""The control plane as one zip for Azure: what .funcignore leaves, and the agent's wheel in dist/, which nodes fetch.

    python3 tools/package.py [mirrorplane.zip]   writes dist/<wheel> and the zip (default: dist/mirrorplane.zip)
    python3 tools/package.py --wheel-only        writes dist/<wheel> only; azd and func zip the directory themselves

Azure installs requirements.txt from the zip (remote build), so dependencies are not in it. The same sources make the
same zip. Standard library only; pip must be able to build the wheel (it fetches setuptools if it is not installed).
Limits: .funcignore is understood as far as it is used here: names with wildcards, and paths from the root.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
SOURCE_DATE = "1767225600"  # fixed, so that the same sources make the same wheel
ZIP_DATE = (2026, 1, 1, 0, 0, 0)


def build_wheel(target: Path) -> Path:
    """The agent's wheel in `target`, alone. Raises CalledProcessError with pip's words on the terminal."""
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("mirror_agent-*.whl"):
        old.unlink()
    with tempfile.TemporaryDirectory(prefix="mirror-agent-") as scratch:
        # On a copy: setuptools leaves a build directory whose stale files would end up in the next wheel.
        copy = Path(scratch) / "agent"
        shutil.copytree(ROOT / "agent", copy, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
        isolation = ["--no-build-isolation"] if importlib.util.find_spec("setuptools") else []
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *isolation]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": SOURCE_DATE}
        subprocess.run([*command, "--wheel-dir", str(target), str(copy)], check=True, env=environment)
    (wheel,) = target.glob("mirror_agent-*.whl")
    return wheel


def ignored(relative: str, patterns: list[str]) -> bool:
    """Whether .funcignore leaves this path out, itself or by a directory above it."""
    parts = relative.split("/")
    for pattern in patterns:
        bare = pattern.rstrip("/")
        for depth in range(1, len(parts) + 1):
            if pattern.endswith("/") and depth == len(parts):
                continue  # a pattern for directories, and this is the file
            seen = "/".join(parts[:depth]) if "/" in bare else parts[depth - 1]
            if fnmatch.fnmatchcase(seen, bare):
                return True
    return False


def patterns_of(text: str) -> list[str]:
    """Raises ValueError for what this does not understand."""
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    for line in found:
        if line.startswith(("!", "/")) or "**" in line:
            raise ValueError(f".funcignore: {line!r} is not understood by tools/package.py")
    return found


def files(patterns: list[str]) -> Iterator[tuple[str, Path]]:
    """What belongs into the package, by its path in it; dist/ is filled by this program alone."""
    for directory, names, inside in os.walk(ROOT):
        place = Path(directory).relative_to(ROOT)
        # "x" stands for any file: a directory is entered unless everything in it is left out.
        names[:] = [name for name in names if not ignored((place / name / "x").as_posix(), patterns)]
        for name in inside:
            relative = (place / name).as_posix()
            if not relative.startswith("dist/") and not ignored(relative, patterns):
                yield relative, ROOT / relative


def make_package(target: Path, wheel: Path) -> None:
    patterns = patterns_of((ROOT / ".funcignore").read_text(encoding="utf-8"))
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as package:
        for relative, path in sorted([*files(patterns), (f"dist/{wheel.name}", wheel)]):
            entry = zipfile.ZipInfo(relative, ZIP_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if os.access(path, os.X_OK) else 0o644) << 16
            package.writestr(entry, path.read_bytes())


def main(arguments: list[str]) -> int:
    wheel = build_wheel(DIST)
    print(f"dist/{wheel.name}")
    if "--wheel-only" not in arguments:
        target = Path(arguments[0]) if arguments else DIST / "mirrorplane.zip"
        make_package(target, wheel)
        print(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
