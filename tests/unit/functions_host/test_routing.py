"""Route templates and the order in which functions are tried."""

import pytest

from lab.functions_host.errors import StartRefused
from lab.functions_host.routing import RouteTable, compile_route


def table(**templates: str) -> RouteTable:
    return RouteTable(compile_route(name, "api", template, None) for name, template in templates.items())


def values(template: str, path: str) -> dict[str, str] | None:
    match = table(f=template).find("GET", path)
    return None if match is None else dict(match.values)


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("x", "/api/x", {}),
        ("x", "/API/X/", {}),
        ("x", "/api/x/y", None),
        ("x", "/x", None),
        ("x/{id}", "/api/x/17", {"id": "17"}),
        ("x/{id}", "/api/x/", None),
        ("x/{id}", "/api/x/a%20b%2Fc", {"id": "a b%2Fc"}),
        ("x/{id}", "/api/x/a%3Ab", {"id": "a:b"}),
        ("x/{id?}", "/api/x", {}),
        ("x/{id?}", "/api/x/17", {"id": "17"}),
        ("x/{id=7}", "/api/x", {"id": "7"}),
        ("x/{id:int?}", "/api/x", {}),
        ("x/{id:int}", "/api/x/17", {"id": "17"}),
        ("x/{id:int}", "/api/x/2147483648", None),
        ("x/{id:long}", "/api/x/2147483648", {"id": "2147483648"}),
        ("x/{id:int:min(3)}", "/api/x/2", None),
        ("x/{id:range(3,5)}", "/api/x/5", {"id": "5"}),
        ("x/{id:length(2)}", "/api/x/abc", None),
        ("x/{id:length(2,3)}", "/api/x/abc", {"id": "abc"}),
        ("x/{id:alpha}", "/api/x/ab1", None),
        ("x/{id:bool}", "/api/x/True", {"id": "True"}),
        ("x/{id:guid}", "/api/x/6f9619ff-8b86-d011-b42d-00c04fc964ff", {"id": "6f9619ff-8b86-d011-b42d-00c04fc964ff"}),
        ("x/{id:regex(^\\d{{3}}$)}", "/api/x/123", {"id": "123"}),
        ("x/{id:regex(^\\d{{3}}$)}", "/api/x/1234", None),
        ("{*rest}", "/api/a/b/c", {"rest": "a/b/c"}),
        ("{**rest}", "/api", {}),
        ("x/{name}:{action}", "/api/x/alpha:swap", {"name": "alpha", "action": "swap"}),
        ("x/{file}.{ext}", "/api/x/a.b.c", {"file": "a.b", "ext": "c"}),
        ("/x/{{id}}", "/api/x/{id}", {}),
    ],
)
def test_template_and_path(template: str, path: str, expected: dict[str, str] | None) -> None:
    assert values(template, path) == expected


def test_functions_are_tried_by_name_whatever_their_templates() -> None:
    routes = table(b_literal="x/count", A_parameter="x/{id}")
    match = routes.find("GET", "/api/x/count")
    assert match is not None
    assert match.function == "A_parameter"
    assert [(winner.function, hidden.function) for winner, hidden in routes.hidden_by()] == [
        ("A_parameter", "b_literal")
    ]


def test_a_wrong_method_is_no_match_and_lets_the_next_function_try() -> None:
    routes = RouteTable(
        [
            compile_route("a", "api", "x", frozenset({"PUT"})),
            compile_route("b", "api", "x", frozenset({"GET"})),
        ]
    )
    match = routes.find("get", "/api/x")
    assert match is not None
    assert match.function == "b"
    assert routes.find("DELETE", "/api/x") is None
    assert routes.hidden_by() == []


def test_an_empty_prefix() -> None:
    assert RouteTable([compile_route("f", "", "/{*route}", None)]).find("GET", "/any/thing") is not None


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("x/{id:integer}", "did you mean 'int'"),
        ("x/{id", "without"),
        ("x/id}", "without"),
        ("x/{id?}/y", "must stand at the end"),
        ("{*rest}/y", "must stand at the end"),
        ("{a}/{A}", "occurs twice"),
        ("x/{id:min(a)}", "cannot be read"),
        ("x/{1d}", "not a parameter name"),
        ("x/{id:regex([)}", "cannot be read"),
    ],
)
def test_templates_that_are_refused(template: str, message: str) -> None:
    with pytest.raises(StartRefused, match=message):
        compile_route("f", "api", template, None)
