"""A deployment of an ARM template on paper: in the order of its dependencies, modules included, with concrete bodies.

What a template would send to each resource provider is `deploy(template, parameters)`. What Azure would answer
(`reference`, `listKeys`) is invented from the type of the resource; a property nobody has thought of here is an error,
so that a template cannot pick what does not exist. Conditions are followed; a reference to a resource that is not
deployed is an error, as it is in Azure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.unit.infra.arm_expressions import SUBSCRIPTION, Context, TemplateError, evaluate
from tests.unit.infra.facts import faults

_ENVELOPE: Final = frozenset(
    {
        "type",
        "apiVersion",
        "name",
        "condition",
        "copy",
        "dependsOn",
        "scope",
        "existing",
        "subscriptionId",
        "resourceGroup",
    }
)


@dataclass(frozen=True)
class Resource:
    """One PUT. `scope`: the resource an extension is put on. `body`: what follows type, version and name."""

    type: str
    api_version: str
    name: str
    body: dict[str, Any]
    group: str
    scope: str | None = None

    @property
    def key(self) -> str:
        """The type; for the kinds of `sites/config` and `sites/extensions`, which differ by name, with the name."""
        last = self.name.rsplit("/", 1)[-1]
        return (
            f"{self.type}/{last}"
            if self.type in ("Microsoft.Web/sites/config", "Microsoft.Web/sites/extensions")
            else self.type
        )


@dataclass
class Deployment:
    resources: list[Resource] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)

    def of_type(self, kind: str) -> list[Resource]:
        return [resource for resource in self.resources if resource.type == kind]

    def only(self, key: str) -> Resource:
        found = [resource for resource in self.resources if resource.key == key]
        assert len(found) == 1, f"{len(found)} resources are {key}"
        return found[0]


@dataclass(frozen=True)
class Provider:
    """What stands for Azure: `put` answers the properties of a resource, `sas` signs; a lab can be really asked."""

    put: Callable[[Resource], dict[str, Any]]
    sas: Callable[[str, str, Mapping[str, str]], dict[str, str]]
    subscription: str = SUBSCRIPTION


def deploy(
    template: Mapping[str, Any],
    parameters: Mapping[str, Any],
    *,
    group: str = "control",
    provider: Provider | None = None,
) -> Deployment:
    """Raises TemplateError."""
    return _Deploying(template, parameters, group, provider or PAPER).run()


class _Deploying:
    def __init__(
        self, template: Mapping[str, Any], parameters: Mapping[str, Any], group: str, provider: Provider
    ) -> None:
        self._template = template
        self._provider = provider
        self._group = group
        self._done = Deployment()
        self._answers: dict[str, Any] = {}
        self._skipped: set[str] = set()
        self._context = Context(
            variable=self._variable,
            reference=self._reference,
            list_keys=_list_keys,
            list_service_sas=provider.sas,
            subscription=provider.subscription,
            group=group,
        )
        self._context.parameters = self._given(parameters)

    def run(self) -> Deployment:
        waiting = dict(self._template["resources"])
        while waiting:
            free = [name for name, entry in waiting.items() if not set(entry.get("dependsOn", ())) & set(waiting)]
            if not free:
                raise TemplateError(f"{sorted(waiting)} need each other")
            for name in free:
                self._deploy(name, waiting.pop(name))
        for name, output in self._template.get("outputs", {}).items():
            self._done.outputs[name] = evaluate(output["value"], self._context)
        return self._done

    def _given(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        declared = self._template.get("parameters", {})
        if set(parameters) - set(declared):
            raise TemplateError(f"parameters {sorted(set(parameters) - set(declared))} are not declared")
        values: dict[str, Any] = {}
        for name, entry in declared.items():
            if name in parameters:
                values[name] = parameters[name]
            elif "defaultValue" in entry:
                values[name] = evaluate(
                    entry["defaultValue"],
                    Context(parameters=values, group=self._group, subscription=self._provider.subscription),
                )
            else:
                raise TemplateError(f"the parameter {name!r} is not given")
            _check_parameter(name, entry, values[name])
        return values

    def _variable(self, name: str) -> Any:
        declared = self._template.get("variables", {})
        if name not in declared:
            raise TemplateError(f"the variable {name!r} is not declared")
        return evaluate(declared[name], self._context)

    def _reference(self, symbol: str, *_: str) -> Any:
        if symbol in self._skipped:
            raise TemplateError(f"{symbol!r} is referred to, but it is not deployed")
        if symbol not in self._answers:
            raise TemplateError(f"{symbol!r} is referred to before it is there: dependsOn lacks it")
        return self._answers[symbol]

    def _deploy(self, symbol: str, entry: Mapping[str, Any]) -> None:
        if not evaluate(entry.get("condition", True), self._context):
            self._skipped.add(symbol)
            return
        count = evaluate(entry["copy"]["count"], self._context) if "copy" in entry else None
        for index in range(1 if count is None else count):
            context = self._context if count is None else Context(**{**vars(self._context), "copy_index": index})
            self._answers[symbol] = self._put(entry, context)

    def _put(self, entry: Mapping[str, Any], context: Context) -> Any:
        kind, name = entry["type"], evaluate(entry["name"], context)
        if kind == "Microsoft.Resources/deployments":
            return self._module(entry, context)
        body = evaluate({key: value for key, value in entry.items() if key not in _ENVELOPE}, context)
        resource = Resource(kind, entry["apiVersion"], name, body, self._group, evaluate(entry.get("scope"), context))
        if not entry.get("existing"):
            self._done.resources.append(resource)
        return self._provider.put(resource)

    def _module(self, entry: Mapping[str, Any], context: Context) -> Any:
        properties = entry["properties"]
        given = {name: evaluate(value["value"], context) for name, value in properties["parameters"].items()}
        group = evaluate(entry.get("resourceGroup", self._group), context)
        inner = deploy(properties["template"], given, group=group, provider=self._provider)
        self._done.resources += inner.resources
        return {"outputs": {name: {"value": value} for name, value in inner.outputs.items()}}


def _check_parameter(name: str, entry: Mapping[str, Any], value: Any) -> None:
    kinds = {
        "string": str,
        "securestring": str,
        "int": int,
        "bool": bool,
        "array": list,
        "object": dict,
        "secureobject": dict,
    }
    if value is not None and not isinstance(value, kinds[entry["type"].lower()]):
        raise TemplateError(f"the parameter {name!r} is {value!r}, which is no {entry['type']}")
    if "allowedValues" in entry and value not in entry["allowedValues"]:
        raise TemplateError(f"the parameter {name!r} is {value!r}; allowed: {entry['allowedValues']}")
    if isinstance(value, str) and not entry.get("minLength", 0) <= len(value) <= entry.get("maxLength", 1 << 20):
        raise TemplateError(f"the parameter {name!r} has {len(value)} characters")
    if isinstance(value, int) and not entry.get("minValue", value) <= value <= entry.get("maxValue", value):
        raise TemplateError(f"the parameter {name!r} is {value}")


def _list_keys(resource_id: str, version: str) -> Any:
    return {"keys": [{"value": "bm90LWEta2V5"}]}


def _sas(resource_id: str, version: str, body: Mapping[str, str]) -> dict[str, str]:
    """As storageAccounts/listServiceSas of that version takes and answers it."""
    wrong = faults(f"Microsoft.Storage/storageAccounts/listServiceSas@{version}", dict(body))
    if wrong or "canonicalizedResource" not in body:
        raise TemplateError(f"listServiceSas: {wrong or 'canonicalizedResource is missing'}")
    return {"serviceSasToken": "sv=2015-04-05&tn=witness&sig=bm90LWEtc2lnbmF0dXJl"}


def _answer(resource: Resource) -> dict[str, Any]:
    """Properties that Azure adds, by type; and what was sent."""
    name = resource.name.rsplit("/", 1)[-1]
    made: dict[str, dict[str, Any]] = {
        "Microsoft.ManagedIdentity/userAssignedIdentities": {
            "principalId": "aaaaaaaa-0000-0000-0000-000000000001",
            "clientId": "bbbbbbbb-0000-0000-0000-000000000002",
        },
        "Microsoft.Storage/storageAccounts": {
            "primaryEndpoints": {
                kind: f"https://{name}.{kind}.core.windows.net/" for kind in ("blob", "queue", "table")
            }
        },
        "Microsoft.KeyVault/vaults": {"vaultUri": f"https://{name}.vault.azure.net/"},
        "Microsoft.Insights/components": {"ConnectionString": f"InstrumentationKey={SUBSCRIPTION}"},
        "Microsoft.EventGrid/topics": {"endpoint": f"https://{name}.westeurope-1.eventgrid.azure.net/api/events"},
        "Microsoft.Web/sites": {"defaultHostName": f"{name}.azurewebsites.net"},
        "Microsoft.Network/publicIPAddresses": {
            "ipAddress": "203.0.113.7",
            "dnsSettings": {"fqdn": f"{name}.westeurope.cloudapp.azure.com"},
        },
    }
    return {**(resource.body.get("properties") or {}), **made.get(resource.type, {})}


PAPER: Final = Provider(put=_answer, sas=_sas)
