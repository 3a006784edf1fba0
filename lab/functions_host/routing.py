"""Which function answers a path: ASP.NET route templates, tried in the order of the functions' names.

Guarantee, copied from the Azure host's source: functions are tried in the case-insensitive order of their names, the
first match wins; there is no "literal before parameter" rule, so `x/{id}` of function `a` hides `x/count` of function
`b` (`hidden_by` reports such pairs at start). A wrong method or a failed constraint is "no match", that is 404, never
405. Paths are compared without case; `%2F` stays encoded in route values; a value is always text.
Templates: literals, `{id}`, `{id?}`, `{id=default}`, `{*rest}`, `{**rest}`, several parameters in a segment, and the
constraints of `CONSTRAINTS`. Limits: optional and default values only at the end of the template.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from lab.functions_host.errors import StartRefused, nearest

Check = Callable[[str], bool]


def _is_number(text: str, low: float, high: float) -> bool:
    return re.fullmatch(r"-?\d+", text) is not None and low <= int(text) <= high


def _bounded(arguments: str, measure: Callable[[str], int | None]) -> Check:
    """`(n)` or `(low,high)` over a figure of the value; None is never inside."""
    numbers = [int(part) for part in arguments.split(",")]
    low, high = numbers[0], numbers[-1]

    def check(text: str) -> bool:
        figure = measure(text)
        return figure is not None and low <= figure <= high

    return check


def _integer(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _matches(pattern: str) -> Callable[[str], Check]:
    compiled = re.compile(pattern)
    return lambda _arguments: lambda text: compiled.fullmatch(text) is not None


CONSTRAINTS: Final[Mapping[str, Callable[[str], Check]]] = {
    "int": lambda _: lambda text: _is_number(text, -(2**31), 2**31 - 1),
    "long": lambda _: lambda text: _is_number(text, -(2**63), 2**63 - 1),
    "bool": _matches(r"(?i:true|false)"),
    "guid": _matches(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    "alpha": _matches(r"[A-Za-z]*"),
    "double": _matches(r"-?\d+(\.\d+)?([eE][+-]?\d+)?"),
    "decimal": _matches(r"-?\d+(\.\d+)?"),
    "required": _matches(r".+"),
    "min": lambda arguments: lambda text: (n := _integer(text)) is not None and n >= int(arguments),
    "max": lambda arguments: lambda text: (n := _integer(text)) is not None and n <= int(arguments),
    "range": lambda arguments: _bounded(arguments, _integer),
    "length": lambda arguments: _bounded(arguments, len),
    "minlength": lambda arguments: lambda text: len(text) >= int(arguments),
    "maxlength": lambda arguments: lambda text: len(text) <= int(arguments),
    # As in ASP.NET Core: not anchored, without case.
    "regex": lambda arguments: lambda text: re.search(arguments, text, re.IGNORECASE) is not None,
}


@dataclass(frozen=True, slots=True)
class _Parameter:
    name: str
    catch_all: bool
    optional: bool
    default: str | None
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """One compiled template. `methods` None: all."""

    function: str
    template: str
    methods: frozenset[str] | None
    pattern: re.Pattern[str]
    parameters: tuple[_Parameter, ...]

    def match(self, path: str) -> dict[str, str] | None:
        """Route values of `path` (decoded, without leading slash), or None."""
        found = self.pattern.fullmatch(path)
        if found is None:
            return None
        values: dict[str, str] = {}
        for number, parameter in enumerate(self.parameters):
            value = found[f"p{number}"]
            if not value:  # an optional value that is absent, or an empty rest
                if parameter.default is not None:
                    values[parameter.name] = parameter.default
                continue
            if not all(check(value) for check in parameter.checks):
                return None
            values[parameter.name] = value
        return values


@dataclass(frozen=True, slots=True)
class Match:
    function: str
    values: Mapping[str, str]


class RouteTable:
    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(sorted(routes, key=lambda route: route.function.lower()))

    def find(self, method: str, raw_path: str) -> Match | None:
        """`raw_path` as on the request line, without the query."""
        path = decode_path(raw_path)
        for route in self.routes:
            if route.methods is not None and method.upper() not in route.methods:
                continue
            values = route.match(path)
            if values is not None:
                return Match(route.function, values)
        return None

    def hidden_by(self) -> list[tuple[Route, Route]]:
        """Pairs (winner, hidden): a literal template that an earlier function's parameters swallow."""
        pairs = []
        for position, later in enumerate(self.routes):
            if later.parameters:
                continue
            for earlier in self.routes[:position]:
                share = earlier.methods is None or later.methods is None or earlier.methods & later.methods
                if share and earlier.match(later.template) is not None:
                    pairs.append((earlier, later))
        return pairs


def decode_path(raw_path: str) -> str:
    """Percent-decoded but for `%2F`, without the leading and one trailing slash."""
    kept = re.sub(r"%2[fF]", "%252F", raw_path)
    return unquote(kept, errors="replace").removeprefix("/").removesuffix("/")


def compile_route(function: str, prefix: str, template: str, methods: frozenset[str] | None) -> Route:
    """Raises StartRefused for a template this host cannot read."""
    place = f"function {function!r}, route {template!r}"
    full = "/".join(part for part in (prefix.strip("/"), template.strip("/")) if part)
    parameters: list[_Parameter] = []
    pattern = ""
    for token in _tokens(full, place):
        if not isinstance(token, _Parameter):
            _refuse_open_end(parameters, place)
            pattern += re.escape(token)
            continue
        _refuse_open_end(parameters, place)
        if token.name.lower() in {parameter.name.lower() for parameter in parameters}:
            raise StartRefused(f"{place}: the parameter {token.name!r} occurs twice")
        pattern = _append(pattern, token, len(parameters))
        parameters.append(token)
    return Route(function, full, methods, re.compile(pattern, re.IGNORECASE), tuple(parameters))


def _refuse_open_end(parameters: list[_Parameter], place: str) -> None:
    if parameters and (parameters[-1].catch_all or parameters[-1].optional or parameters[-1].default is not None):
        raise StartRefused(f"{place}: {parameters[-1].name!r} may be empty and must stand at the end of the template")


def _append(pattern: str, parameter: _Parameter, number: int) -> str:
    value = ".*" if parameter.catch_all else "[^/]+"
    if not (parameter.catch_all or parameter.optional or parameter.default is not None):
        return f"{pattern}(?P<p{number}>{value})"
    slash = pattern.endswith("/")
    start = pattern.removesuffix("/")
    return f"{start}(?:{'/' if slash else ''}(?P<p{number}>{value}))?"


def _tokens(template: str, place: str) -> list[str | _Parameter]:
    """Literals and parameters in order. `{{` and `}}` are escaped braces, inside parameters too (regex constraints)."""
    tokens: list[str | _Parameter] = []
    literal = ""
    position = 0
    while position < len(template):
        pair = template[position : position + 2]
        if pair in ("{{", "}}"):
            literal += pair[0]
            position += 2
        elif template[position] == "{":
            if literal:
                tokens.append(literal)
                literal = ""
            content, position = _braced(template, position + 1, place)
            tokens.append(_parameter(content, place))
        elif template[position] == "}":
            raise StartRefused(f"{place}: '}}' without '{{'")
        else:
            literal += template[position]
            position += 1
    return [*tokens, literal] if literal else tokens


def _braced(template: str, position: int, place: str) -> tuple[str, int]:
    content = ""
    while position < len(template):
        pair = template[position : position + 2]
        if pair in ("{{", "}}"):
            content += pair[0]
            position += 2
        elif template[position] == "}":
            return content, position + 1
        else:
            content += template[position]
            position += 1
    raise StartRefused(f"{place}: '{{' without '}}'")


def _parameter(content: str, place: str) -> _Parameter:
    head, *constraints = _split_constraints(content)
    name = head.lstrip("*")
    catch_all = head.startswith("*")
    default: str | None = None
    optional = False
    tail = constraints[-1] if constraints else name  # `?` and `=default` end the last part: {id:int?}
    if tail.endswith("?"):
        optional, tail = True, tail[:-1]
    elif "=" in tail and not tail.startswith("regex"):
        tail, default = tail.split("=", 1)
    if constraints:
        constraints[-1] = tail
    else:
        name = tail
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
        raise StartRefused(f"{place}: {name!r} is not a parameter name")
    return _Parameter(name, catch_all, optional, default, tuple(_constraint(text, place) for text in constraints))


def _split_constraints(content: str) -> list[str]:
    parts, depth = [""], 0
    for character in content:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == ":" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _constraint(text: str, place: str) -> Check:
    found = re.fullmatch(r"(?P<name>[A-Za-z]+)(?:\((?P<arguments>.*)\))?", text)
    if found is None or found["name"].lower() not in CONSTRAINTS:
        raise StartRefused(f"{place}: the constraint {text!r} is unknown; {nearest(text.split('(')[0], CONSTRAINTS)}")
    name, arguments = found["name"].lower(), found["arguments"] or ""
    try:
        check = CONSTRAINTS[name](arguments)
        check("0")  # argument errors show here, not at the first request
    except (ValueError, re.error) as error:
        raise StartRefused(f"{place}: the constraint {text!r} cannot be read: {error}") from None
    return check
