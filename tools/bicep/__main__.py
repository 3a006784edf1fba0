"""Writes the ARM templates of infra/ from their Bicep: `python -m tools.bicep`.

With `--check` it only says which are stale (and ends with 1)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from tools.bicep.template import compile_file

INFRA: Final = Path(__file__).resolve().parents[2] / "infra"
# Bicep → the template made of it. main.bicep is only for azd, which compiles it itself.
TEMPLATES: Final = {
    "control-plane.bicep": "azuredeploy.json",
    "events.bicep": "events.json",
    "cluster/main.bicep": "cluster/azuredeploy.json",
}


def render(source: Path) -> str:
    return json.dumps(compile_file(source), indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    stale = []
    for source, target in TEMPLATES.items():
        wanted, path = render(INFRA / source), INFRA / target
        if not path.exists() or path.read_text(encoding="utf-8") != wanted:
            stale.append(target)
            if "--check" not in arguments:
                path.write_text(wanted, encoding="utf-8")
    print(f"stale: {', '.join(stale)}" if stale else "all templates are what their Bicep says")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
