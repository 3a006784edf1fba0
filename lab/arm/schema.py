"""Checks request bodies against the vendor SDK's own models.

The generated models of azure-mgmt-* know every property of the API: wire name, type, enumeration, read-only or not.
Reading them gives ARM's strictness without a copy of the specification: an unknown or misspelt property, a wrong type
and an unknown enumeration value are refused at any depth, read-only properties are dropped (ARM ignores them, so that
GET-change-PUT works). Limits: property names are compared with case (Azure does not mind case); numbers are not
range-checked here; `_attr_to_rest_field` is a private attribute, pinned by the SDK versions and by the tests.
"""

from __future__ import annotations

import datetime
import enum
import functools
import importlib
import types
import typing
from dataclasses import dataclass
from typing import Any

from lab.arm.errors import ArmError, compute_parameter, malformed_json, network_format

# Enumerations whose list in the model stopped growing long ago (its docstring says so); any text is accepted.
OPEN_ENUMERATIONS = frozenset({"VirtualMachineSizeTypes"})
VALUES_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Scalar:
    python: tuple[type, ...]  # accepted JSON types; empty: anything


@dataclass(frozen=True, slots=True)
class Choice:
    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    item: Spec


@dataclass(frozen=True, slots=True)
class MapOf:
    item: Spec


@dataclass(frozen=True, slots=True)
class ModelOf:
    """Resolved late: models refer to each other in circles."""

    model: type


Spec = Scalar | Choice | ListOf | MapOf | ModelOf


@dataclass(frozen=True, slots=True)
class Property:
    spec: Spec
    read_only: bool
    required: bool


def model_class(module: str, name: str) -> type:
    """`model_class("azure.mgmt.network", "LoadBalancer")`; imported late because the packages are large."""
    found: type = getattr(importlib.import_module(f"{module}.models"), name)
    return found


@functools.cache
def properties_of(model: type) -> dict[str, Property]:
    """Wire name → property of a generated model."""
    package = importlib.import_module(model.__module__.rsplit(".", 1)[0])
    hints = typing.get_type_hints(model, None, {"_models": package})
    # `__new__` fills the table of fields the first time a model is made; it needs no arguments.
    generated: Any = model
    generated.__new__(generated)
    fields: dict[str, Any] = generated._attr_to_rest_field
    found = {}
    for attribute, rest in fields.items():
        spec, optional = _spec(hints[attribute])
        read_only = rest._visibility == ["read"]
        found[rest._rest_name] = Property(spec, read_only, required=not optional and not read_only)
    return found


def _spec(hint: Any) -> tuple[Spec, bool]:
    """The spec of a type hint and whether None is allowed."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        optional = type(None) in arguments
        rest = [argument for argument in arguments if argument is not type(None)]
        choices = [a for a in rest if isinstance(a, type) and issubclass(a, enum.Enum)]
        if choices and choices[0].__name__ in OPEN_ENUMERATIONS:
            return Scalar((str,)), optional
        if choices:
            return Choice(choices[0].__name__, tuple(str(member.value) for member in choices[0])), optional
        return _spec(rest[0])[0], optional
    if origin is list:
        return ListOf(_spec(arguments[0])[0]), False
    if origin is dict:
        return MapOf(_spec(arguments[1])[0]), False
    if isinstance(hint, type):
        if issubclass(hint, enum.Enum):
            return Choice(hint.__name__, tuple(str(member.value) for member in hint)), False
        if hasattr(hint, "_is_model"):
            return ModelOf(hint), False
        scalar = {str: (str,), int: (int,), float: (int, float), bool: (bool,), datetime.datetime: (str,)}.get(hint)
        if scalar is not None:
            return Scalar(scalar), False
    return Scalar(()), False


class BodyCheck:
    """Checks one body and returns the writable part of it; errors in the words of its provider namespace."""

    def __init__(self, namespace: str) -> None:
        self._network = namespace.lower() == "microsoft.network"

    def check(self, model: type, body: Any) -> dict[str, Any]:
        """Raises `ArmError` 400. Absent and null are the same, as for ARM."""
        if not isinstance(body, dict):
            raise malformed_json(f"Error converting value to type '{model.__name__}'. Path '', line 1, position 1.")
        return self._object(model, body, "")

    def _object(self, model: type, body: dict[str, Any], path: str) -> dict[str, Any]:
        known = properties_of(model)
        result = {}
        for name, value in body.items():
            where = f"{path}.{name}" if path else name
            found = known.get(name)
            if found is None:
                raise self._unknown(name, model, where)
            if value is None or found.read_only:
                continue
            result[name] = self._value(found.spec, value, where)
        for name, found in known.items():
            if found.required and name not in result:
                raise self._missing(name, f"{path}.{name}" if path else name)
        return result

    def _value(self, spec: Spec, value: Any, path: str) -> Any:
        match spec:
            case Scalar(python):
                wrong_bool = isinstance(value, bool) and bool not in python
                if python and (wrong_bool or not isinstance(value, python)):
                    raise self._invalid(
                        path, f"Error converting a {type(value).__name__} to type '{python[-1].__name__}'"
                    )
                return value
            case Choice(name, values):
                for known in values:  # ARM compares without case and answers with its own spelling
                    if isinstance(value, str) and known.lower() == value.lower():
                        return known
                raise self._invalid(
                    path, f"Error converting value '{value!s:.40}' to type '{name}': {list(values[:VALUES_SHOWN])}"
                )
            case ListOf(item):
                if not isinstance(value, list):
                    raise self._invalid(path, "Cannot deserialize: an array is required")
                return [self._value(item, element, f"{path}[{index}]") for index, element in enumerate(value)]
            case MapOf(item):
                if not isinstance(value, dict):
                    raise self._invalid(path, "Cannot deserialize: an object is required")
                return {key: self._value(item, element, f"{path}.{key}") for key, element in value.items()}
            case ModelOf(model):
                if not isinstance(value, dict):
                    raise self._invalid(path, f"Cannot deserialize: an object of type '{model.__name__}' is required")
                return self._object(model, value, path)

    def _unknown(self, name: str, model: type, path: str) -> ArmError:
        text = f"Could not find member '{name}' on object of type '{model.__name__}'. Path '{path}'."
        if "." not in path:
            # The envelope is ARM's own, whatever the provider: Azure/azure-sdk-for-net#3487.
            return malformed_json(text.replace(model.__name__, "ResourceDefinition"))
        return self._invalid(path, text)

    def _missing(self, name: str, path: str) -> ArmError:
        if name == "location":
            return ArmError(400, "LocationRequired", "The location property is required for this definition.")
        if self._network:
            return network_format(
                "MissingJsonProperty", f"Required property '{name}' not found in JSON. Path '{path}'."
            )
        return compute_parameter(f"Required parameter '{path}' is missing (null).", path)

    def _invalid(self, path: str, text: str) -> ArmError:
        if self._network:
            return network_format("InvalidJson", f"{text} Path '{path}'." if "Path" not in text else text)
        return ArmError(400, "BadRequest", f"{text} Path '{path}'." if "Path" not in text else text, target=path)
