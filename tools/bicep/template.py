"""One Bicep file → one ARM template (languageVersion 2.0: resources by symbolic name), modules as nested deployments.

Guarantee: the same source gives the same bytes; a name that is not declared, a parameter a module does not have or
misses, and a symbol that depends on itself are errors. Not checked: types of values, and what Azure makes of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tree_sitter import Node

from tools.bicep.expressions import Expressions, Scope, Symbol, loop_of, quoted
from tools.bicep.syntax import Source, inner, literal, member, members, text

DEPLOYMENTS_API: Final = "2025-04-01"
_SCHEMAS: Final = {
    "resourceGroup": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
    "subscription": "https://schema.management.azure.com/schemas/2018-05-01/subscriptionDeploymentTemplate.json#",
}
_DECORATORS: Final = {
    "allowed": "allowedValues",
    "minLength": "minLength",
    "maxLength": "maxLength",
    "minValue": "minValue",
    "maxValue": "maxValue",
}
_SPECIAL: Final = frozenset({"parent", "scope", "dependsOn", "name"})


@dataclass(frozen=True)
class Declaration:
    """A resource or module as written: `body` is the object, `condition` and `loop` what stands before it."""

    node: Node
    name: str
    target: str
    existing: bool
    body: Node
    condition: Node | None
    loop: tuple[str, Node] | None


def compile_file(path: Path) -> dict[str, Any]:
    """Raises BicepError, OSError."""
    return _Template(Source(path)).build()


class _Template:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._scope = Scope(source)
        self._express = Expressions(self._scope)
        self._target = "resourceGroup"
        self._declared: dict[str, Declaration] = {}
        self._parameters: dict[str, dict[str, Any]] = {}

    def build(self) -> dict[str, Any]:
        parameters, variables, outputs = self._collect()
        for name, (node, decorators) in parameters.items():
            self._parameters[name] = self._parameter(node, decorators)
        template: dict[str, Any] = {
            "$schema": _SCHEMAS[self._target],
            "languageVersion": "2.0",
            "contentVersion": "1.0.0.0",
        }
        if self._parameters:
            template["parameters"] = self._parameters
        for name in self._declared:
            self._symbol(name)
        if variables:
            template["variables"] = {name: self._express.value(node) for name, node in variables.items()}
        template["resources"] = {name: self._entry(found) for name, found in self._declared.items()}
        _refuse_circles(self._source, template["resources"])
        if outputs:
            template["outputs"] = {name: self._output(node, notes) for name, (node, notes) in outputs.items()}
        return template

    def _collect(
        self,
    ) -> tuple[dict[str, tuple[Node, list[Node]]], dict[str, Node], dict[str, tuple[Node, list[Node]]]]:
        parameters, variables, outputs = {}, {}, {}
        decorators: list[Node] = []
        for node in self._source.declarations:
            if node.type == "decorators":
                decorators = inner(node)
                continue
            named = next((text(part) for part in node.children if part.type == "identifier"), "")
            match node.type:
                case "target_scope_assignment":
                    self._target = literal(node.children[-1]) or ""
                case "parameter_declaration":
                    parameters[named] = (node, decorators)
                    self._scope.parameters.add(named)
                case "variable_declaration":
                    variables[named] = node.children[-1]
                    self._scope.variables.add(named)
                case "resource_declaration" | "module_declaration":
                    self._declared[named] = self._declaration(node, named)
                case "output_declaration":
                    outputs[named] = (node, decorators)
                case _:
                    raise self._source.error(node, f"{node.type} is not understood")
            decorators = []
        if self._target not in _SCHEMAS:
            raise self._source.error(self._source.tree.root_node, f"targetScope {self._target!r} is not understood")
        return parameters, variables, outputs

    def _declaration(self, node: Node, name: str) -> Declaration:
        parts = inner(node)
        target = literal(next(part for part in parts if part.type == "string")) or ""
        body, condition, loop = parts[-1], None, None
        if body.type == "for_statement":
            variable, over, body = loop_of(self._source, body)
            loop = (variable, over)
        if body.type == "if_statement":
            condition, body = (part for part in inner(body) if part.type != "if")
        existing = any(part.type == "existing" for part in parts)
        return Declaration(node, name, target, existing, body, condition, loop)

    def _parameter(self, node: Node, decorators: list[Node]) -> dict[str, Any]:
        kind = text(next(part for part in node.children if part.type == "type"))
        entry: dict[str, Any] = {"type": kind}
        notes = self._notes(decorators)
        if notes.pop("secure", False):
            entry["type"] = {"string": "securestring", "object": "secureObject"}[kind]
        if any(part.type == "=" for part in node.children):
            entry["defaultValue"] = self._express.value(node.children[-1])
        return entry | notes

    def _output(self, node: Node, decorators: list[Node]) -> dict[str, Any]:
        kind = text(next(part for part in node.children if part.type == "type"))
        return {"type": kind, "value": self._express.value(node.children[-1]), **self._notes(decorators)}

    def _notes(self, decorators: list[Node]) -> dict[str, Any]:
        notes: dict[str, Any] = {}
        for decorator in decorators:
            call = decorator.children[-1]
            name, arguments = text(call.children[0]), inner(call.children[1])
            if name == "secure":
                notes["secure"] = True
            elif name == "description":
                notes["metadata"] = {"description": literal(arguments[0])}
            elif name in _DECORATORS:
                notes[_DECORATORS[name]] = self._express.value(arguments[0])
            else:
                raise self._source.error(decorator, f"the decorator @{name} is not understood")
        return notes

    # --- symbols ---------------------------------------------------------------------------------------------------
    def _symbol(self, name: str) -> Symbol:
        """The symbol of a declaration; its parent's first."""
        if name in self._scope.symbols:
            return self._scope.symbols[name]
        found = self._declared[name]
        named = member(found.body, "name")
        if named is None:
            raise self._source.error(found.node, f"{name!r} has no name")
        if found.node.type == "module_declaration":
            symbol = Symbol(name, "module", "Microsoft.Resources/deployments", DEPLOYMENTS_API, (), "")
        else:
            kind, _, version = found.target.partition("@")
            parent = self._parent(found)
            names = () if parent is None else parent.names
            with _Loop(self._scope, found):
                names = (*names, self._express.text(named))
                place = self._id(found, kind, names)
            symbol = Symbol(name, "resource", kind, version, names, place, found.existing, found.loop is not None)
        self._scope.symbols[name] = symbol
        return symbol

    def _parent(self, found: Declaration) -> Symbol | None:
        node = member(found.body, "parent")
        if node is None:
            return None
        if text(node) not in self._declared:
            raise self._source.error(node, f"the parent {text(node)!r} is not declared")
        return self._symbol(text(node))

    def _id(self, found: Declaration, kind: str, names: tuple[str, ...]) -> str:
        scope, listed = member(found.body, "scope"), ", ".join((quoted(kind), *names))
        if scope is not None:
            return f"extensionResourceId({self._symbol(text(scope)).id}, {listed})"
        return f"resourceId({listed})" if self._target == "resourceGroup" else f"subscriptionResourceId({listed})"

    # --- resources -------------------------------------------------------------------------------------------------
    def _entry(self, found: Declaration) -> dict[str, Any]:
        self._scope.used.clear()
        entry: dict[str, Any] = {}
        if found.condition is not None:
            entry["condition"] = self._express.value(found.condition)
        if found.loop is not None:
            entry["copy"] = {"name": found.name, "count": f"[length({self._express.text(found.loop[1])})]"}
        with _Loop(self._scope, found):
            entry |= self._module(found) if found.node.type == "module_declaration" else self._resource(found)
        needs = sorted(self._needs(found))
        if needs and not found.existing:
            entry["dependsOn"] = needs
        return entry

    def _resource(self, found: Declaration) -> dict[str, Any]:
        symbol = self._symbol(found.name)
        entry: dict[str, Any] = {"existing": True} if found.existing else {}
        entry |= {"type": symbol.type, "apiVersion": symbol.api_version, "name": self._full_name(found, symbol)}
        scope = member(found.body, "scope")
        if scope is not None:
            self._scope.used.add(text(scope))
            entry["scope"] = f"[{self._symbol(text(scope)).id}]"
        parent = member(found.body, "parent")
        if parent is not None:
            self._scope.used.add(text(parent))
        for key, value in members(found.body):
            if text(key) not in _SPECIAL:
                entry[text(key)] = self._express.value(value)
        return entry

    def _full_name(self, found: Declaration, symbol: Symbol) -> Any:
        named = member(found.body, "name")
        assert named is not None
        if len(symbol.names) == 1:
            return self._express.value(named)
        pattern = "/".join(f"{{{index}}}" for index in range(len(symbol.names)))
        return f"[format('{pattern}', {', '.join(symbol.names)})]"

    def _module(self, found: Declaration) -> dict[str, Any]:
        path = self._source.path.parent / found.target
        template = compile_file(path)
        named, given = member(found.body, "name"), member(found.body, "params")
        assert named is not None
        parameters = {} if given is None else {text(key): self._express.value(value) for key, value in members(given)}
        declared = template.get("parameters", {})
        unknown = sorted(set(parameters) - set(declared))
        missing = sorted(name for name in declared if name not in parameters and "defaultValue" not in declared[name])
        if unknown or missing:
            raise self._source.error(found.node, f"{path.name}: unknown parameters {unknown}, missing {missing}")
        return {
            "type": "Microsoft.Resources/deployments",
            "apiVersion": DEPLOYMENTS_API,
            "name": self._express.value(named),
            **self._module_scope(found),
            "properties": {
                "expressionEvaluationOptions": {"scope": "inner"},
                "mode": "Incremental",
                "parameters": {name: {"value": value} for name, value in parameters.items()},
                "template": template,
            },
        }

    def _module_scope(self, found: Declaration) -> dict[str, Any]:
        scope = member(found.body, "scope")
        if scope is None:
            return {}
        if text(scope) == "subscription()":
            return {"subscriptionId": "[subscription().subscriptionId]", "location": "[resourceGroup().location]"}
        self._scope.used.add(text(scope))
        return {"resourceGroup": f"[{self._symbol(text(scope)).names[-1]}]"}

    def _needs(self, found: Declaration) -> set[str]:
        """Symbols that must be deployed first: those used, and those named; an existing one is there already."""
        needs = set(self._scope.used)
        named = member(found.body, "dependsOn")
        if named is not None:
            needs |= {text(part) for part in inner(named)}
        unknown = needs - set(self._declared)
        if unknown:
            raise self._source.error(found.node, f"dependsOn names {sorted(unknown)}, which are not declared")
        return {name for name in needs if not self._declared[name].existing and name != found.name}


class _Loop:
    """Inside it, the loop variable of a resource means its element."""

    def __init__(self, scope: Scope, found: Declaration) -> None:
        self._scope = scope
        self._loop = found.loop

    def __enter__(self) -> None:
        if self._loop is not None:
            variable, over = self._loop
            self._scope.locals[variable] = f"{Expressions(self._scope).text(over)}[copyIndex()]"

    def __exit__(self, *_: object) -> None:
        if self._loop is not None:
            del self._scope.locals[self._loop[0]]


def _refuse_circles(source: Source, resources: dict[str, dict[str, Any]]) -> None:
    left = {name: set(entry.get("dependsOn", ())) for name, entry in resources.items()}
    while left:
        free = [name for name, needs in left.items() if not needs & set(left)]
        if not free:
            raise source.error(source.tree.root_node, f"{sorted(left)} need each other")
        for name in free:
            del left[name]
