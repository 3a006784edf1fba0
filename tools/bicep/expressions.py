"""Bicep expressions → the expression language of ARM templates.

`Expressions.value` gives what stands in the JSON: literals as they are, anything computed as "[…]". Symbols of
resources and modules become `resourceId(…)`, `reference('symbol')` and `list…(…)`, and every symbol used is noted,
because Bicep derives `dependsOn` from use.
Limits: the subset that infra/ is written in; anything else is refused, with file and line.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from tree_sitter import Node

from tools.bicep.syntax import Source, inner, literal, members, string_parts, text

_OPERATORS: Final = {
    "==": "equals({}, {})",
    "!=": "not(equals({}, {}))",
    "&&": "and({}, {})",
    "||": "or({}, {})",
    "??": "coalesce({}, {})",
    ">": "greater({}, {})",
    "<": "less({}, {})",
    ">=": "greaterOrEquals({}, {})",
    "<=": "lessOrEquals({}, {})",
    "+": "add({}, {})",
    "-": "sub({}, {})",
}
# Functions that ARM knows by the same name and infra/ uses. A misspelt one must not reach Azure.
FUNCTIONS: Final = frozenset(
    [
        "base64",
        "cidrSubnet",
        "concat",
        "dateTimeAdd",
        "empty",
        "environment",
        "guid",
        "length",
        "newGuid",
        "resourceGroup",
        "resourceId",
        "skip",
        "string",
        "subscription",
        "subscriptionResourceId",
        "union",
        "uniqueString",
        "utcNow",
    ]
)


@dataclass(frozen=True)
class Symbol:
    """A resource or module of a template. `names`: expression text of each part of the name, parents first."""

    name: str
    kind: str
    type: str
    api_version: str
    names: tuple[str, ...]
    id: str
    existing: bool = False
    looped: bool = False


@dataclass
class Scope:
    """What names mean in one template."""

    source: Source
    parameters: set[str] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)
    symbols: dict[str, Symbol] = field(default_factory=dict)
    locals: dict[str, str] = field(default_factory=dict)
    """Variables of loops and lambdas → their ARM text."""
    used: set[str] = field(default_factory=set)
    """Symbols that were referred to since it was last emptied."""


def quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


class Expressions:
    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def value(self, node: Node) -> Any:
        """As it stands in the template."""
        match node.type:
            case "string":
                plain = literal(node)
                if plain is not None:
                    return "[" + plain if plain.startswith("[") else plain
                return f"[{self.text(node)}]"
            case "number":
                return int(text(node))
            case "boolean":
                return text(node) == "true"
            case "null":
                return None
            case "object":
                return {self._key(key): self.value(part) for key, part in members(node)}
            case "array":
                return [self.value(part) for part in inner(node)]
            case "call_expression" if text(node.children[0]) == "loadTextContent":
                content = self._file(node)
                return "[" + content if content.startswith("[") else content
            case _:
                return f"[{self.text(node)}]"

    def _file(self, node: Node) -> str:
        """The file a text is loaded from. Only as a whole value: an expression may have 24,576 characters."""
        (argument,) = inner(node.children[1])
        name = literal(argument)
        if name is None:
            raise self._scope.source.error(node, "loadTextContent wants a plain path")
        return (self._scope.source.path.parent / name).read_text(encoding="utf-8")

    def _key(self, key: Node) -> str:
        if key.type != "string":
            return text(key)
        plain = literal(key)
        return plain if plain is not None else f"[{self.text(key)}]"

    def text(self, node: Node) -> str:
        """As expression text, without brackets."""
        match node.type:
            case "string":
                return self._string(node)
            case "number":
                return text(node)
            case "boolean":
                return f"{text(node)}()"
            case "null":
                return "null()"
            case "object":
                pairs = [f"{self._key_text(key)}, {self.text(part)}" for key, part in members(node)]
                return f"createObject({', '.join(pairs)})"
            case "array":
                return f"createArray({', '.join(self.text(part) for part in inner(node))})"
            case "parenthesized_expression":
                return self.text(inner(node)[0])
            case "unary_expression":
                sign, operand = node.children
                return f"not({self.text(operand)})" if text(sign) == "!" else f"sub(0, {self.text(operand)})"
            case "binary_expression":
                left, operator, right = node.children
                if text(operator) not in _OPERATORS:
                    raise self._scope.source.error(node, f"the operator {text(operator)} is not understood")
                return _OPERATORS[text(operator)].format(self.text(left), self.text(right))
            case "ternary_expression":
                question, yes, no = (part for part in node.children if part.type not in ("?", ":"))
                return f"if({self.text(question)}, {self.text(yes)}, {self.text(no)})"
            case "identifier":
                return self._identifier(node)
            case "member_expression" | "subscript_expression":
                return self._member(node)
            case "call_expression":
                return self._call(node)
            case "for_statement":
                return self._for(node)
            case _:
                raise self._scope.source.error(node, f"{node.type} is not understood")

    def _string(self, node: Node) -> str:
        plain = literal(node)
        if plain is not None:
            return quoted(plain)
        pattern = ""
        arguments: list[str] = []
        for part in string_parts(node):
            if isinstance(part, str):
                pattern += part.replace("{", "{{").replace("}", "}}")
            else:
                pattern += f"{{{len(arguments)}}}"
                arguments.append(self.text(part))
        return f"format({quoted(pattern)}, {', '.join(arguments)})"

    def _key_text(self, key: Node) -> str:
        return self.text(key) if key.type == "string" else quoted(text(key))

    def _identifier(self, node: Node) -> str:
        name, scope = text(node), self._scope
        if name in scope.locals:
            return scope.locals[name]
        if name in scope.parameters:
            return f"parameters({quoted(name)})"
        if name in scope.variables:
            return f"variables({quoted(name)})"
        raise scope.source.error(node, f"{name!r} is no parameter, variable or loop variable here")

    def _member(self, node: Node) -> str:
        base, path = self._chain(node)
        if base.type == "identifier" and text(base) in self._scope.symbols:
            return self._of_symbol(self._scope.symbols[text(base)], path, node)
        return self.text(base) + "".join(path)

    def _chain(self, node: Node) -> tuple[Node, list[str]]:
        """The expression at the beginning, and what is picked out of it, as text."""
        path: list[str] = []
        while node.type in ("member_expression", "subscript_expression"):
            parts = [part for part in node.children if part.type not in (".", "!", "[", "]")]
            if len(parts) == 1:  # a lone "!": only a hint for Bicep's type checker
                node = parts[0]
                continue
            if any(part.type == ".?" for part in parts):
                raise self._scope.source.error(node, "'.?' is not understood")
            picked = parts[1]
            name = text(picked)
            path.insert(0, f".{name}" if node.type == "member_expression" else f"[{self.text(picked)}]")
            node = parts[0]
        if path and node.type == "ternary_expression":
            # The grammar takes `a ? b : c[0]` for `(a ? b : c)[0]`; Bicep does not.
            raise self._scope.source.error(node, "put what stands behind ':' into parentheses")
        return node, path

    def _of_symbol(self, symbol: Symbol, path: list[str], node: Node) -> str:
        self._scope.used.add(symbol.name)
        reference = f"reference({quoted(symbol.name)})"
        match path:
            case [".outputs", name] if symbol.kind == "module":
                return f"{reference}.outputs{name}.value"
            case _ if symbol.kind == "module":
                raise self._scope.source.error(node, f"of the module {symbol.name!r} only outputs can be used")
            case [".id"]:
                return symbol.id
            case [".name"]:
                return symbol.names[-1]
            case [".properties", *rest]:
                return reference + "".join(rest)
            case _:
                raise self._scope.source.error(node, f"{symbol.name}{''.join(path)} is not understood")

    def _call(self, node: Node) -> str:
        function, arguments = node.children[0], inner(node.children[1])
        if function.type == "member_expression":
            base, path = self._chain(function)
            symbol = self._scope.symbols.get(text(base))
            if symbol is None or path not in ([".listKeys"], [".listServiceSas"]):
                raise self._scope.source.error(node, f"the call {text(function)} is not understood")
            self._scope.used.add(symbol.name)
            if path == [".listServiceSas"]:
                return f"listServiceSas({symbol.id}, {', '.join(self.text(part) for part in arguments)})"
            return f"listKeys({symbol.id}, {quoted(symbol.api_version)})"
        if text(function) not in FUNCTIONS:
            raise self._scope.source.error(node, f"{text(function)!r} is no function that is known here")
        return f"{text(function)}({', '.join(self.text(part) for part in arguments)})"

    def _for(self, node: Node) -> str:
        """A list made of another one. (A loop of resources is the template's business.)"""
        variable, over, body = loop_of(self._scope.source, node)
        listed = self.text(over)
        self._scope.locals[variable] = f"lambdaVariables({quoted(variable)})"
        try:
            return f"map({listed}, lambda({quoted(variable)}, {self.text(body)}))"
        finally:
            del self._scope.locals[variable]


def loop_of(source: Source, node: Node) -> tuple[str, Node, Node]:
    """(variable, list, body) of `[for variable in list: body]`."""
    parts = [part for part in inner(node) if part.type not in ("for", "in", ":")]
    if len(parts) != 3 or parts[0].type == "for_loop_parameters":
        raise source.error(node, "only [for x in list: …] is understood")
    return text(parts[0]), parts[1], parts[2]
