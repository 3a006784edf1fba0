"""Rewrites a module so that mypyc makes quick code of it. What is decided stays the same text, statement by statement.

Two things change, both about how values are made and named: a frozen dataclass gets the constructor and comparison
written out that `dataclass` would generate (compiled instead of interpreted, and `State.with_` a field-by-field copy);
and a member of an enumeration is looked up once per module instead of at every use. That nothing else changed is not
taken on trust: the traces of plain and compiled runs are compared (`compiled`).
"""

from __future__ import annotations

import ast
from typing import Final

COPYING: Final = "with_"


def native(source: str, enumerations: frozenset[str]) -> str:
    """The module's source as it is compiled. `enumerations`: names of the enumeration classes of all modules."""
    tree = ast.parse(source)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and _is_frozen(node):
            _write_out(node)
    members = _Members(enumerations)
    tree = members.visit(tree)
    _define(tree, members.used)
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def enumerations_in(source: str) -> frozenset[str]:
    return frozenset(
        node.name
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id == "StrEnum" for b in node.bases)
    )


def _is_frozen(cls: ast.ClassDef) -> bool:
    return any(
        isinstance(made, ast.Call)
        and isinstance(made.func, ast.Name)
        and made.func.id == "dataclass"
        and any(keyword.arg == "frozen" for keyword in made.keywords)
        for made in cls.decorator_list
    )


def _write_out(cls: ast.ClassDef) -> None:
    """Constructor, equality and hash as methods; the decorator stays for `replace`, `fields` and `repr`."""
    parameters: list[str] = []
    body: list[str] = []
    names: list[str] = []
    for field in cls.body:
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        name, kind = field.target.id, ast.unparse(field.annotation)
        names.append(name)
        factory = _factory(field.value)
        if factory:
            parameters.append(f"{name}: {kind} | None = None")
            body.append(f"self.{name} = {factory}() if {name} is None else {name}")
        else:
            default = "" if field.value is None else f" = {ast.unparse(field.value)}"
            parameters.append(f"{name}: {kind}{default}")
            body.append(f"self.{name} = {name}")
    methods = {method.name for method in cls.body if isinstance(method, ast.FunctionDef)}
    if "__post_init__" in methods:
        body.append("self.__post_init__()")
    lines: list[str] = []
    if names:
        lines += [f"def __init__(self, {', '.join(parameters)}) -> None:", *(f"    {line}" for line in body)]
    same = " and ".join([f"isinstance(other, {cls.name})", *(f"self.{name} == other.{name}" for name in names)])
    lines += ["def __eq__(self, other: object) -> bool:", f"    return self is other or ({same})"]
    lines += ["def __hash__(self) -> int:", f"    return hash(({''.join(f'self.{name}, ' for name in names)}))"]
    if COPYING in methods:
        cls.body = [m for m in cls.body if not (isinstance(m, ast.FunctionDef) and m.name == COPYING)]
        lines += [
            f"def {COPYING}(self, **changes: object) -> {cls.name}:",
            f"    copy = {cls.name}({', '.join(f'self.{name}' for name in names)})",
            "    for name, value in changes.items():",
            "        setattr(copy, name, value)",  # refuses a name that is no field, and a value of another type
            "    return copy",
        ]
    cls.body += ast.parse("\n".join(lines)).body
    made = "dataclass(init=False, eq=False)" if names else "dataclass(eq=False)"
    cls.decorator_list = [ast.parse(made, mode="eval").body]


def _factory(value: ast.expr | None) -> str:
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "field":
        for keyword in value.keywords:
            if keyword.arg == "default_factory":
                return ast.unparse(keyword.value)
    return ""


class _Members(ast.NodeTransformer):
    """`Role.WAIT` becomes `Role_WAIT`, but not in the pattern of a `case`, where a name would catch everything."""

    def __init__(self, enumerations: frozenset[str]) -> None:
        self.enumerations = enumerations
        self.used: set[tuple[str, str]] = set()

    def visit_MatchValue(self, node: ast.MatchValue) -> ast.AST:
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id in self.enumerations and node.attr.isupper():
            self.used.add((node.value.id, node.attr))
            return ast.copy_location(ast.Name(f"{node.value.id}_{node.attr}", node.ctx), node)
        return self.generic_visit(node)


def _define(tree: ast.Module, used: set[tuple[str, str]]) -> None:
    """The names of the members, after the class they are of or after the last import."""
    imports = [at for at, node in enumerate(tree.body) if isinstance(node, ast.Import | ast.ImportFrom)]
    after_imports = max(imports, default=0) + 1
    classes = {node.name: at + 1 for at, node in enumerate(tree.body) if isinstance(node, ast.ClassDef)}
    places = sorted(((classes.get(name, after_imports), name, member) for name, member in used), reverse=True)
    for at, name, member in places:
        tree.body[at:at] = ast.parse(f"{name}_{member}: Final = {name}.{member}").body
    if used:
        first = next(at for at, node in enumerate(tree.body) if not _is_opening(node))
        tree.body[first:first] = ast.parse("from typing import Final").body


def _is_opening(node: ast.stmt) -> bool:
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return docstring or (isinstance(node, ast.ImportFrom) and node.module == "__future__")
