"""The stand-ins are strict, and the library asks for nothing they do not offer."""

import ast
from importlib.metadata import version
from pathlib import Path
from typing import Any

import azure_functions_runtime
import pytest

from lab.functions_host import protos

PINNED = "1.3.0"


def names_the_library_uses() -> set[str]:
    """`protos.X` and `getattr(protos, "X")` in the sources of the installed library."""
    used: set[str] = set()
    for source in sorted(Path(azure_functions_runtime.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            match node:
                case ast.Attribute(value=ast.Name(id="protos"), attr=name):
                    used.add(name)
                case ast.Call(
                    func=ast.Name(id="getattr"), args=[ast.Name(id="protos"), ast.Constant(value=str(name)), *_]
                ):
                    used.add(name)
    return used


def test_the_library_is_the_pinned_one() -> None:
    assert version("azure-functions-runtime") == PINNED, (
        "a new worker library: compare its use of protos with lab/functions_host/protos.py, then change the pin here"
    )


def test_the_library_uses_exactly_the_names_we_offer() -> None:
    # `TypedData` is also probed on messages, as `protos.TypedData`, where the argument is called protos.
    assert names_the_library_uses() == protos.LIBRARY_NAMES


@pytest.mark.parametrize("name", sorted(protos.LIBRARY_NAMES))
def test_stand_ins_refuse_unknown_fields(name: str) -> None:
    stand_in: Any = getattr(protos, name)
    with pytest.raises(TypeError):
        stand_in(no_such_field=1)
    with pytest.raises(AttributeError):
        setattr(stand_in(), "no_such_field", 1)  # noqa: B010 - a type checker refuses the plain assignment


def test_typed_data_is_a_oneof() -> None:
    assert protos.TypedData().WhichOneof("data") is None
    assert protos.TypedData(string="").WhichOneof("data") == "string"
    assert protos.TypedData(int=0).WhichOneof("data") == "int"
    assert not hasattr(protos.TypedData(), "TypedData"), "the library takes it for a wrapper then"
    with pytest.raises(TypeError, match="one kind"):
        protos.TypedData(string="a", json="b")
    with pytest.raises(ValueError, match="oneof"):
        protos.TypedData().WhichOneof("other")


def test_the_none_of_same_site_is_reachable_as_the_library_does() -> None:
    assert getattr(protos.RpcHttpCookie.SameSite, "None") == 0
