"""The package that goes to Azure: complete, and without what is not needed."""

from __future__ import annotations

import re
import tomllib
import zipfile
from pathlib import Path

import mirror_agent
import pytest

from tests.unit.infra.sent_bodies import ROOT, control_plane
from tools.package import ignored, make_package, patterns_of


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    wheel = folder / f"mirror_agent-{mirror_agent.__version__}-py3-none-any.whl"
    wheel.write_bytes(b"a wheel is built by pip; this one only has its name")
    make_package(folder / "mirrorplane.zip", wheel)
    return folder / "mirrorplane.zip"


def test_what_the_app_needs_is_in_it_and_what_it_does_not_need_is_not(package: Path) -> None:
    with zipfile.ZipFile(package) as opened:
        names = set(opened.namelist())
    needed = {"function_app.py", "host.json", "requirements.txt", "agent/pyproject.toml", "shared/composition.py"}
    boots = [path for os in ("linux", "windows") for path in (ROOT / "infra" / "vm" / os).iterdir()]
    needed |= {path.relative_to(ROOT).as_posix() for path in boots}
    assert needed - names == set()
    tops = {name.partition("/")[0] for name in names}
    assert tops & {"lab", "tests", "docs", "bench", ".git", ".venv", "local.settings.json", "build"} == set()
    assert not [name for name in names if name.endswith((".pyc", ".zip"))]


def test_every_module_the_functions_import_is_in_it(package: Path) -> None:
    """An error while function_app.py is imported deploys "green", with no function at all. (That the app is indexed is
    seen in tests/lab/test_function_index.py; here, that nothing of it was left out.)"""
    with zipfile.ZipFile(package) as opened:
        texts = {name: opened.read(name).decode() for name in opened.namelist() if name.endswith(".py")}
    app = {name: text for name, text in texts.items() if name.startswith(("shared/", "functions/", "function_app"))}
    assert len(app) > 100
    for name, text in app.items():
        for line in re.findall(r"^\s*from ((?:shared|functions)[\w.]*) import", text, re.MULTILINE):
            path = line.replace(".", "/")
            assert f"{path}.py" in texts or f"{path}/__init__.py" in texts, f"{name} imports {line}"


def test_the_wheel_of_the_setting_is_the_one_in_the_package(package: Path) -> None:
    settings = control_plane().only("Microsoft.Web/sites/config/appsettings").body["properties"]
    with zipfile.ZipFile(package) as opened:
        wheels = [name for name in opened.namelist() if name.startswith("dist/")]
    assert [f"/home/site/wwwroot/{name}" for name in wheels] == [settings["MIRRORPLANE_AGENT_WHEEL"]]
    built = tomllib.loads((ROOT / "agent" / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    assert wheels[0].startswith(f"dist/{built.replace('-', '_')}-")


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        ("tests/unit/test_x.py", True),
        ("shared/tests.py", False),
        ("shared/__pycache__/x.pyc", True),
        ("agent/build/lib/x.py", True),
        ("shared/build.py", False),
        ("README.md", True),
        (".mypy_cache/x", True),
        (".gitignore", True),
        ("infra/azuredeploy.json", False),
    ],
)
def test_funcignore_is_understood(path: str, left_out: bool) -> None:
    patterns = patterns_of((ROOT / ".funcignore").read_text(encoding="utf-8"))
    assert ignored(path, patterns) is left_out


def test_a_pattern_that_is_not_understood_is_refused() -> None:
    with pytest.raises(ValueError, match="keep"):
        patterns_of("*.md\n!keep.md\n")
