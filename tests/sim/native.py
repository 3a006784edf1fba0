"""Rewrites a module so that mypyc makes quick code of it. What is decided stays the same text, statement by statement.

What changes is how values are made, named and told apart: a frozen dataclass gets the constructor and comparison
written out that `dataclass` would generate; `State.with_` becomes a method of its own for each set of fields it is
called with; constants and members of enumerations are looked up once; and a `match` over classes becomes a chain of
`isinstance`, which mypyc turns into a comparison of pointers. That nothing else changed is not taken on trust: the
traces of plain and compiled runs are compared (`compiled`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

COPYING: Final = "with_"
Fields = tuple[str, ...]


@dataclass(frozen=True)
class Known:
    """What has to be known of all modules to rewrite one of them."""

    enumerations: frozenset[str]
    copied: frozenset[Fields]  # the sets of fields that `with_` is called with, in the order of the calls
    fields: dict[str, Fields]  # of the frozen dataclasses


def survey(sources: Iterable[str]) -> Known:
    """Read all modules before the first of them is rewritten."""
    trees = [ast.parse(source) for source in sources]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call) and _copies(node)]
    return Known(
        frozenset(cls.name for cls in classes if _is_enumeration(cls)),
        frozenset(tuple(str(keyword.arg) for keyword in call.keywords) for call in calls),
        {cls.name: tuple(name for name, _, _ in _fields(cls)) for cls in classes if _is_frozen(cls)},
    )


def native(source: str, known: Known) -> str:
    """The module's source as it is compiled."""
    tree = ast.parse(source)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and _is_frozen(node):
            _write_out(node, known)
    tree.body = [_constant(node) for node in tree.body]
    tree = _Copies().visit(_Matches(known.fields).visit(tree))
    members = _Members(known.enumerations)
    tree = members.visit(tree)
    _define(tree, members.used)
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


def _is_enumeration(cls: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == "StrEnum" for base in cls.bases)


def _copies(call: ast.Call) -> bool:
    """A call of `with_` that names its fields."""
    named = bool(call.keywords) and not call.args and all(keyword.arg for keyword in call.keywords)
    return named and isinstance(call.func, ast.Attribute) and call.func.attr == COPYING


def _copier(fields: Iterable[str]) -> str:
    return f"with__{'__'.join(fields)}"


def _fields(cls: ast.ClassDef) -> list[tuple[str, str, ast.expr | None]]:
    """Name, type and default of each field of a dataclass."""
    return [
        (field.target.id, ast.unparse(field.annotation), field.value)
        for field in cls.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    ]


def _constant(node: ast.stmt) -> ast.stmt:
    """`NAME = value` of a module, as `Final`."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and _is_constant(node.targets[0]):
        return ast.parse(f"{ast.unparse(node.targets[0])}: Final = {ast.unparse(node.value)}").body[0]
    if isinstance(node, ast.AnnAssign) and _is_constant(node.target) and "Final" not in ast.unparse(node.annotation):
        node.annotation = ast.Subscript(ast.Name("Final", ast.Load()), node.annotation, ast.Load())
    return node


def _is_constant(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id.isupper()


def _is_frozen(cls: ast.ClassDef) -> bool:
    return any(
        isinstance(made, ast.Call)
        and isinstance(made.func, ast.Name)
        and made.func.id == "dataclass"
        and any(keyword.arg == "frozen" for keyword in made.keywords)
        for made in cls.decorator_list
    )


def _write_out(cls: ast.ClassDef, known: Known) -> None:
    """Constructor, equality and hash as methods; the decorator stays for `replace`, `fields` and `repr`."""
    parameters: list[str] = []
    body: list[str] = []
    names: list[str] = []
    kinds: dict[str, str] = {}
    for name, kind, value in _fields(cls):
        names.append(name)
        kinds[name] = kind
        factory = _factory(value)
        if factory:
            parameters.append(f"{name}: {kind} | None = None")
            body.append(f"self.{name} = {factory}() if {name} is None else {name}")
        else:
            default = "" if value is None else f" = {ast.unparse(value)}"
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
        for fields in sorted(known.copied):
            lines += [
                f"def {_copier(fields)}(self, {', '.join(f'{name}: {kinds[name]}' for name in fields)}) -> {cls.name}:",
                f"    return {cls.name}({', '.join(name if name in fields else f'self.{name}' for name in names)})",
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


class _Copies(ast.NodeTransformer):
    """`state.with_(app=x)` becomes `state.with__app(x)`, a copy without a dictionary of keywords."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if not _copies(node):
            return node
        assert isinstance(node.func, ast.Attribute)
        name = _copier(str(keyword.arg) for keyword in node.keywords)
        return ast.Call(ast.Attribute(node.func.value, name, ast.Load()), [word.value for word in node.keywords], [])


class _Matches(ast.NodeTransformer):
    """`match x: case A(b): ...` becomes `if isinstance(x, A): b = x.b; ...`, where every case is a class or `_`."""

    def __init__(self, fields: dict[str, Fields]) -> None:
        self.fields = fields

    def visit_Match(self, node: ast.Match) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.subject, ast.Name) or not all(self._is_plain(case) for case in node.cases):
            return node
        chain: list[ast.stmt] = []
        for case in reversed(node.cases):
            if not isinstance(case.pattern, ast.MatchClass):
                chain = case.body
                continue
            kind = ast.unparse(case.pattern.cls)
            test = ast.parse(f"isinstance({node.subject.id}, {kind})", mode="eval").body
            taken: list[ast.stmt] = []
            for name, pattern in zip(self.fields[kind], case.pattern.patterns, strict=False):
                if isinstance(pattern, ast.MatchAs) and pattern.name is not None:
                    taken += ast.parse(f"{pattern.name} = {node.subject.id}.{name}").body
            chain = [ast.If(test, [*taken, *case.body], chain)]
        return chain[0]

    def _is_plain(self, case: ast.match_case) -> bool:
        pattern = case.pattern
        if isinstance(pattern, ast.MatchAs):
            return pattern.pattern is None and pattern.name is None and case.guard is None
        if not isinstance(pattern, ast.MatchClass) or case.guard is not None or pattern.kwd_attrs:
            return False
        captures = all(isinstance(inner, ast.MatchAs) and inner.pattern is None for inner in pattern.patterns)
        return captures and ast.unparse(pattern.cls) in self.fields


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
    first = next((at for at, node in enumerate(tree.body) if not _is_opening(node)), len(tree.body))
    tree.body[first:first] = ast.parse("from typing import Final").body


def _is_opening(node: ast.stmt) -> bool:
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return docstring or (isinstance(node, ast.ImportFrom) and node.module == "__future__")
