"""Evaluates the expression language of ARM templates, as far as the templates of infra/ use it.

Not a copy of Azure: what only Azure knows (keys, addresses, the state of other resources) is given by the caller as
`reference` and `list_keys`; `uniqueString` and `guid` give stable values of the right shape, not Azure's own.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

SUBSCRIPTION: Final = "11111111-2222-3333-4444-555555555555"
TENANT: Final = "99999999-8888-7777-6666-555555555555"
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+)|(?P<name>[A-Za-z_]\w*)|(?P<mark>[().,\[\]]))"
)


class TemplateError(Exception):
    """The template would be refused; the message says where."""


@dataclass(frozen=True)
class Call:
    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Pick:
    base: Node
    key: Node


@dataclass(frozen=True)
class Literal:
    value: str | int


Node = Call | Pick | Literal


@dataclass
class Context:
    """What an expression may refer to. `parameters` and `variables` hold evaluated values."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    variable: Callable[[str], Any] = lambda name: None
    reference: Callable[..., Any] = lambda *names: None
    list_keys: Callable[[str, str], Any] = lambda resource_id, version: None
    list_service_sas: Callable[[str, str, Mapping[str, str]], Any] = lambda resource_id, version, body: None
    subscription: str = SUBSCRIPTION
    group: str = "control"
    location: str = "westeurope"
    copy_index: int | None = None
    lambdas: dict[str, Any] = field(default_factory=dict)


def evaluate(value: Any, context: Context) -> Any:
    """A JSON value of a template with all its expressions replaced; a None in an object is an absent property."""
    match value:
        case str() if value.startswith("[["):
            return value[1:]
        case str() if value.startswith("[") and value.endswith("]"):
            return _run(parse(value[1:-1]), context)
        case dict():
            found = {evaluate(key, context): evaluate(entry, context) for key, entry in value.items()}
            return {key: entry for key, entry in found.items() if entry is not None}
        case list():
            return [evaluate(entry, context) for entry in value]
        case _:
            return value


def parse(text: str) -> Node:
    tokens: list[tuple[str, str]] = []
    place = 0
    while place < len(text.rstrip()):
        found = _TOKEN.match(text, place)
        if found is None:
            raise TemplateError(f"{text!r}: nothing known at {text[place : place + 20]!r}")
        kind = str(found.lastgroup)
        tokens.append((kind, found[kind]))
        place = found.end()
    parser = _Parser(tokens, text)
    node = parser.expression()
    if parser.tokens:
        raise TemplateError(f"{text!r}: {parser.tokens[0][1]!r} is left over")
    return node


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]], text: str) -> None:
        self.tokens = tokens
        self._text = text

    def expression(self) -> Node:
        kind, token = self._take()
        node: Node
        match kind:
            case "text":
                node = Literal(token[1:-1].replace("''", "'"))
            case "number":
                node = Literal(int(token))
            case "name":
                self._expect("(")
                node = Call(token, self._arguments())
            case _:
                raise TemplateError(f"{self._text!r}: {token!r} is no beginning of an expression")
        while self.tokens and self.tokens[0][1] in (".", "["):
            _, mark = self._take()
            if mark == ".":
                node = Pick(node, Literal(self._take()[1]))
            else:
                node = Pick(node, self.expression())
                self._expect("]")
        return node

    def _arguments(self) -> tuple[Node, ...]:
        found: list[Node] = []
        while self.tokens and self.tokens[0][1] != ")":
            found.append(self.expression())
            if self.tokens and self.tokens[0][1] == ",":
                self._take()
        self._expect(")")
        return tuple(found)

    def _take(self) -> tuple[str, str]:
        if not self.tokens:
            raise TemplateError(f"{self._text!r} ends too early")
        return self.tokens.pop(0)

    def _expect(self, mark: str) -> None:
        _, token = self._take()
        if token != mark:
            raise TemplateError(f"{self._text!r}: {mark!r} wanted, {token!r} found")


def _run(node: Node, context: Context) -> Any:
    match node:
        case Literal(value):
            return value
        case Pick(base, key):
            found, name = _run(base, context), _run(key, context)
            try:
                return found[name]
            except (KeyError, IndexError, TypeError):
                raise TemplateError(f"{name!r} is not in {str(found)[:200]}") from None
        case Call("if", (question, yes, no)):
            return _run(yes if _run(question, context) else no, context)
        case Call("and", arguments):
            return all(_run(argument, context) for argument in arguments)
        case Call("or", arguments):
            return any(_run(argument, context) for argument in arguments)
        case Call("map", (listed, Call("lambda", (Literal(variable), body)))):
            return [_run(body, _with_lambda(context, str(variable), element)) for element in _run(listed, context)]
        case Call(function, arguments):
            return _call(function, [_run(argument, context) for argument in arguments], context)


def _with_lambda(context: Context, name: str, element: Any) -> Context:
    return Context(**{**vars(context), "lambdas": {**context.lambdas, name: element}})


def _call(function: str, given: list[Any], context: Context) -> Any:
    match function:
        case "parameters":
            if given[0] not in context.parameters:
                raise TemplateError(f"the parameter {given[0]!r} is not declared or has no value")
            return context.parameters[given[0]]
        case "variables":
            return context.variable(given[0])
        case "lambdaVariables":
            return context.lambdas[given[0]]
        case "copyIndex":
            return context.copy_index
        case "reference":
            return context.reference(*given)
        case "listKeys":
            return context.list_keys(given[0], given[1])
        case "listServiceSas":
            return context.list_service_sas(*given)
        case "subscription":
            own = context.subscription
            return {"id": f"/subscriptions/{own}", "subscriptionId": own, "tenantId": TENANT}
        case "resourceGroup":
            place = f"/subscriptions/{context.subscription}/resourceGroups/{context.group}"
            return {"id": place, "name": context.group, "location": context.location}
        case "resourceId":
            return f"/subscriptions/{context.subscription}/resourceGroups/{context.group}{_provider(given)}"
        case "subscriptionResourceId":
            return f"/subscriptions/{context.subscription}{_provider(given)}"
        case "extensionResourceId":
            return given[0] + _provider(given[1:])
        case _:
            if function not in _PURE:
                raise TemplateError(f"{function!r} is no function of templates that is known here")
            return _PURE[function](*given)


def _provider(given: list[str]) -> str:
    namespace, *kinds = given[0].split("/")
    if len(kinds) != len(given) - 1:
        raise TemplateError(f"{given[0]} needs {len(kinds)} names, not {given[1:]}")
    return f"/providers/{namespace}" + "".join(f"/{kind}/{name}" for kind, name in zip(kinds, given[1:], strict=True))


def _format(pattern: str, *given: Any) -> str:
    return pattern.format(*given)


def _unique(*given: Any) -> str:
    return hashlib.sha256("|".join(map(str, given)).encode()).hexdigest()[:13].replace("0", "q")


def _guid(*given: Any) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "|".join(map(str, given))))


def _cidr_subnet(block: str, bits: int, index: int) -> str:
    return str(list(ipaddress.ip_network(block).subnets(new_prefix=bits))[index])


def _union(*given: Any) -> Any:
    """Of lists: each value once, where it comes first."""
    if isinstance(given[0], dict):
        return {key: value for entry in given for key, value in entry.items()}
    found: list[Any] = []
    for value in (value for entry in given for value in entry):
        if value not in found:
            found.append(value)
    return found


def _object(*given: Any) -> dict[Any, Any]:
    return {key: value for key, value in zip(given[::2], given[1::2], strict=True) if value is not None}


def _environment() -> dict[str, Any]:
    return {
        "name": "AzureCloud",
        "resourceManager": "https://management.azure.com/",
        "authentication": {"loginEndpoint": "https://login.microsoftonline.com/"},
        "suffixes": {"storage": "core.windows.net", "keyvaultDns": ".vault.azure.net"},
    }


def _string(value: Any) -> str:
    """Objects and lists as JSON without blanks, as Azure writes them."""
    if isinstance(value, dict | list):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return str(value)


def _date_add(moment: str, duration: str) -> str:
    years = re.fullmatch(r"P(\d+)Y", duration)
    if years is None:
        raise TemplateError(f"the duration {duration!r} is not understood here")
    return str(int(moment[:4]) + int(years[1])) + moment[4:]


_PURE: Final[Mapping[str, Callable[..., Any]]] = {
    "add": lambda a, b: a + b,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "cidrSubnet": _cidr_subnet,
    "concat": lambda *given: [entry for part in given for entry in part],
    "dateTimeAdd": _date_add,
    "newGuid": lambda: str(uuid.uuid4()),
    "utcNow": lambda: "2026-11-22T00:00:00Z",
    "coalesce": lambda *given: next((value for value in given if value is not None), None),
    "createArray": lambda *given: list(given),
    "createObject": _object,
    "empty": lambda value: not value,
    "environment": _environment,
    "equals": lambda a, b: a == b,
    "false": lambda: False,
    "format": _format,
    "greater": lambda a, b: a > b,
    "guid": _guid,
    "length": len,
    "less": lambda a, b: a < b,
    "not": lambda value: not value,
    "null": lambda: None,
    "skip": lambda listed, count: listed[count:],
    "string": _string,
    "sub": lambda a, b: a - b,
    "true": lambda: True,
    "union": _union,
    "uniqueString": _unique,
}
