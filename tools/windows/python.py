"""`python -m tools.windows.python [--prefix NAME] [-- ARGUMENTS]`: Python 3.13 for Windows, made here, run on Wine.

Where it comes from: the interpreter's own libraries (python313.dll, OpenSSL, SQLite, the `_*.pyd`) as python.org built
and signed them lie in `deploy_libs/` of the wheel of panda3d for Windows (BSD; what is taken is under the PSF licence),
which is fetched by pip and pinned by SHA-256; nothing else of it is used. `Lib` is copied from the Python that runs
this. Three small files are made here with mingw: `python.exe`, which calls Py_Main and says in its manifest that it
knows Windows 10; `python3.dll`, which forwards the stable interface to python313.dll (extensions such as psutil's are
linked to it, and without it they are "not found"); and `bcryptprimitives.dll` with the one call of it that programs in
Rust make, which Wine 8 lacks. Packages of `requirements-windows.txt` are wheels for win_amd64.
Guarantee: build/windows/python is complete (its stamp is written last and names what it was made of).
Limits: for tests on this machine. It is not given to anybody; Windows nodes get the embeddable package of python.org.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Final

from tools.windows.wine import BUILD, ROOT, Wine, WineMissing, windows_path

PYTHON: Final = BUILD / "python"
EXECUTABLE: Final = PYTHON / "python.exe"
REQUIREMENTS: Final = ROOT / "requirements-windows.txt"
SOURCES: Final = (".", "agent", "cli")
"""Imported from where they lie, as on Linux."""
DONOR: Final = "panda3d==1.10.16"
DONOR_SHA256: Final = "0e505261bb58d8402d0099c291f1a3459acfdd38f3e7d666e72aa2e1ea5dc46f"
COMPILER: Final = "x86_64-w64-mingw32-gcc"
_DUMP: Final = "x86_64-w64-mingw32-objdump"
_RESOURCES: Final = "x86_64-w64-mingw32-windres"
_PLATFORM: Final = (
    "--platform",
    "win_amd64",
    "--python-version",
    "3.13",
    "--implementation",
    "cp",
    "--only-binary",
    ":all:",
)
# `_wmi`: Wine answers its queries with a crash; Python then asks in its older ways.
_LEFT_OUT: Final = ("_test", "_ctypes_test", "api-ms-win-", "_wmi")
_NOT_COPIED: Final = shutil.ignore_patterns("site-packages", "__pycache__", "test", "idlelib", "tkinter", "turtledemo")
_LAUNCHER: Final = """
#include <windows.h>
typedef int (*py_main)(int, wchar_t **);
int wmain(int argc, wchar_t **argv) {
    HMODULE library = LoadLibraryW(L"python313.dll");
    if (!library) return 199;
    return ((py_main)(void *)GetProcAddress(library, "Py_Main"))(argc, argv);
}
"""
_MANIFEST: Final = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<assembly xmlns="urn:schemas-microsoft-com:asm.v1" manifestVersion="1.0">
  <compatibility xmlns="urn:schemas-microsoft-com:compatibility.v1"><application>
    <supportedOS Id="{8e0f7a12-bfb3-4fe8-b9a5-48fd50a15a9a}"/>
  </application></compatibility>
</assembly>
"""
_RANDOM: Final = """
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T count) {
    return SystemFunction036(bytes, (ULONG)count);
}
BOOL WINAPI DllMain(HINSTANCE library, DWORD reason, LPVOID more) { return TRUE; }
"""


class NotMade(RuntimeError):
    """One line: what could not be found or made."""


def ensure() -> Path:
    """The interpreter, made if it is not there. Raises NotMade."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with open(BUILD / "python.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _install_packages()
        stamp, wanted = PYTHON / "made-of", _recipe()
        if not stamp.exists() or stamp.read_text(encoding="ascii") != wanted:
            _make()
            stamp.write_text(wanted, encoding="ascii")
    return EXECUTABLE


def _recipe() -> str:
    texts = (REQUIREMENTS.read_text(encoding="utf-8"), sys.version, DONOR_SHA256, _LAUNCHER, _MANIFEST, _RANDOM)
    return hashlib.sha256("\0".join((*texts, *_LEFT_OUT)).encode()).hexdigest()


def _make() -> None:
    if sys.version_info[:2] != (3, 13):
        raise NotMade(f"Lib has to come from Python 3.13, this is {sysconfig.get_python_version()}")
    shutil.rmtree(PYTHON, ignore_errors=True)
    PYTHON.mkdir(parents=True)
    _unpack(_donor())
    _compile()
    _forward_stable_interface()
    shutil.copytree(sysconfig.get_path("stdlib"), PYTHON / "Lib", ignore=_NOT_COPIED)
    _packages(PYTHON / "Lib" / "site-packages")


def _install_packages() -> None:
    """Wine and the cross compiler, where they are missing and we may. `wine` is in the package of that name."""
    wanted = [
        package
        for command, package in (("wine", "wine"), ("wine", "wine64"), (COMPILER, "gcc-mingw-w64-x86-64"))
        if shutil.which(command) is None and shutil.which(f"{command}-stable") is None
    ]
    if not wanted:
        return
    said = f"not installed: {', '.join(wanted)}"
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        raise NotMade(f"{said}; as root: apt-get install {' '.join(wanted)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", *wanted]):
        done = subprocess.run(["apt-get", *words], env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NotMade(f"{said}, and apt-get {words[0]} failed: {done.stderr.strip()[-300:]}")


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotMade(f"pip could not find {arguments[-1]}: {done.stderr.strip()[-300:]}")


def _donor() -> Path:
    """The wheel, kept; only with the bytes that were looked at."""
    place = BUILD / "download"
    found = next(iter(place.glob("panda3d-*.whl")), None)
    if found is None:
        _pip("download", "--no-deps", "--dest", str(place), *_PLATFORM, DONOR)
        found = next(place.glob("panda3d-*.whl"))
    digest = hashlib.sha256(found.read_bytes()).hexdigest()
    if digest != DONOR_SHA256:
        found.unlink()
        raise NotMade(f"{found.name} has SHA-256 {digest}, expected is {DONOR_SHA256}; it was removed")
    return found


def _unpack(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            directory, _, file = name.partition("/")
            wanted = directory == "deploy_libs" and file.endswith((".dll", ".pyd"))
            if wanted and ".cp313t-" not in file and not file.startswith(_LEFT_OUT):
                (PYTHON / file).write_bytes(archive.read(name))


def _tool(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotMade(f"{command[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def _written(name: str, text: str) -> str:
    place = BUILD / name
    place.write_text(text, encoding="ascii")
    return str(place)


def _compile() -> None:
    manifest = _written("python.manifest", _MANIFEST)
    resource = str(BUILD / "python.res")
    _tool(_RESOURCES, _written("python.rc", f'1 24 "{manifest}"\n'), "-O", "coff", "-o", resource)
    _tool(COMPILER, "-municode", "-O1", "-s", "-o", str(EXECUTABLE), _written("launcher.c", _LAUNCHER), resource)
    library = str(PYTHON / "bcryptprimitives.dll")
    _tool(COMPILER, "-shared", "-O1", "-s", "-o", library, _written("random.c", _RANDOM), "-ladvapi32")


def _forward_stable_interface() -> None:
    """python3.dll: each name that python313.dll exports, forwarded to it."""
    table = _tool(_DUMP, "-p", str(PYTHON / "python313.dll"))
    names = [
        line.rpartition("]")[2].split()[-1]
        for line in table.partition("[Ordinal/Name Pointer] Table")[2].splitlines()
        if line.lstrip().startswith("[")
    ]
    if len(names) < 1000:
        raise NotMade(f"python313.dll of the wheel exports {len(names)} names; thousands were expected")
    lines = ["LIBRARY python3.dll", "EXPORTS", *(f"{name} = python313.{name}" for name in names)]
    definition = _written("python3.def", "\n".join(lines) + "\n")
    source = _written("python3.c", "int DllMain(void *module, unsigned why, void *more) { return 1; }\n")
    library = str(PYTHON / "python3.dll")
    _tool(COMPILER, "-shared", "-nostdlib", "-Wl,-e,DllMain", "-o", library, source, definition)


def _packages(place: Path) -> None:
    _pip("install", "--no-deps", "--no-compile", "--target", str(place), *_PLATFORM, "--requirement", str(REQUIREMENTS))


def main() -> int:
    parser = argparse.ArgumentParser(description="Python for Windows on Wine")
    parser.add_argument("--prefix", default="python", help="name of the prefix; one user each")
    parser.add_argument("arguments", nargs="*", help="after --: what python.exe gets; without, it is only made")
    given = parser.parse_args()
    try:
        executable = ensure()
        if not given.arguments:
            return 0
        with Wine(given.prefix) as wine:
            found = {"PYTHONPATH": ";".join(windows_path(ROOT / part) for part in SOURCES)}
            return wine.pass_through(wine.command(executable, given.arguments), more=found)
    except (NotMade, WineMissing) as error:
        print(f"windows: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
