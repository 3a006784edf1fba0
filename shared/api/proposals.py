"""A cluster that does not exist yet, or a change that is not made yet: what it would cost, what it would do.

`clusters:estimate` is arithmetic; `clusters:validate` also reads Azure, as the reconciler would. Neither writes, in
Azure or in our tables, and neither is in the operators' journal. A proposal that PUT would refuse is an ordinary answer
of `:validate` (its `problems`), so that a pipeline can show all of them; a body that is no cluster at all is refused.
"""

from __future__ import annotations

from pydantic import Field, field_validator

from shared.api.call import Answer, Call, body_of, model_json
from shared.api.plane import ControlPlane
from shared.api.problem import Problem
from shared.api.windows import require_system
from shared.api.wishes import Wish, decide_put
from shared.azure.faults import ArmError
from shared.model.cluster import ClusterRecord
from shared.model.cluster_spec import ClusterSpec, brought_elsewhere, check_name
from shared.model.document import ApiModel
from shared.model.operation import ErrorDetail
from shared.model.principal import Principal
from shared.provisioning.estimate import Estimate, PriceTable, estimate, price_table
from shared.provisioning.preview import Change, ChangeAction, preview
from shared.provisioning.records import plan_of


class Proposal(ApiModel):
    """`cluster`: the body PUT would get; `name`: the name it would be put under."""

    name: str
    cluster: ClusterSpec

    @field_validator("name")
    @classmethod
    def _a_name(cls, value: str) -> str:
        return check_name(value)


class PricesView(ApiModel):
    """Where the prices come from. `of_region` False: the region's own prices are not in the table."""

    date: str
    region: str
    currency: str
    source: str
    of_region: bool


class ItemView(ApiModel):
    type: str
    name: str
    sku: str
    zone: str | None
    monthly_cost: float | None


class QuotaView(ApiModel):
    provider: str
    name: str
    needed: int


class EstimateView(ApiModel):
    """`complete` False: `unpriced` lists what the sum does not contain."""

    name: str
    monthly_cost: float
    complete: bool
    unpriced: tuple[str, ...]
    prices: PricesView
    resources: tuple[ItemView, ...]
    quotas: tuple[QuotaView, ...]
    public_addresses: int


class DifferenceView(ApiModel):
    path: str
    before: str | None
    after: str | None


class ChangeView(ApiModel):
    """`brought`: somebody else's resource, only looked at."""

    type: str
    resource_group: str
    name: str
    action: ChangeAction
    brought: bool
    differences: tuple[DifferenceView, ...] = ()
    problem: ErrorDetail | None = None


class ValidationView(ApiModel):
    """`valid`: PUT would be accepted, and nothing that is there stands in the way."""

    name: str
    valid: bool
    problems: tuple[ErrorDetail, ...]
    counts: dict[ChangeAction, int] = Field(default_factory=dict)
    changes: tuple[ChangeView, ...]


async def estimate_cluster(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    proposal = body_of(call, Proposal)
    record = await _as_put(plane, caller, proposal, [])
    plan = plan_of(record, subscription_id=plane.settings.subscription_id)
    table = price_table()
    return Answer(200, model_json(_estimate_view(proposal, estimate(plan, table), table)))


async def validate_cluster(plane: ControlPlane, caller: Principal, call: Call) -> Answer:
    proposal = body_of(call, Proposal)
    problems = [
        ErrorDetail(code="InvalidField", message=message, target=target)
        for target, message in brought_elsewhere(proposal.cluster, plane.settings.subscription_id)
    ]
    changes: tuple[Change, ...] = ()
    unreadable = bool(problems)
    record = await _as_put(plane, caller, proposal, problems)
    if not unreadable:
        settings = plane.settings
        plan = plan_of(
            record,
            subscription_id=settings.subscription_id,
            control_plane_addresses=settings.control_plane_addresses,
        )
        try:
            changes = await preview(plane.arm, plan)
        except ArmError as error:
            raise Problem(
                "AzureUnavailable",
                f"Azure did not answer for every resource ({error.fault.code}: {error.fault.message}); ask again",
            ) from None
    problems += [change.problem for change in changes if change.problem is not None]
    return Answer(200, model_json(_validation_view(proposal.name, problems, changes)))


async def _as_put(
    plane: ControlPlane, caller: Principal, proposal: Proposal, problems: list[ErrorDetail]
) -> ClusterRecord:
    """The record a PUT would write; why it would not be written goes to `problems`."""
    found = await plane.store.clusters.get(proposal.name)
    wish = Wish(principal=f"{caller.kind}:{caller.id}", operation_id=plane.new_id(), named=False, now=plane.clock())
    try:
        existing = None if found is None else found.value
        if existing is None:
            require_system(plane.settings, proposal.cluster)
        return decide_put(proposal.name, existing, proposal.cluster, wish, plane.new_id()).record
    except Problem as problem:
        if found is None:
            raise
        problems.append(problem.error)
        return found.value.model_copy(update={"spec": proposal.cluster})


def _estimate_view(proposal: Proposal, found: Estimate, table: PriceTable) -> EstimateView:
    return EstimateView(
        name=proposal.name,
        monthly_cost=found.monthly,
        complete=not found.unpriced,
        unpriced=found.unpriced,
        prices=PricesView(
            date=table.date,
            region=table.region,
            currency=table.currency,
            source=table.source,
            of_region=table.region == proposal.cluster.location,
        ),
        resources=tuple(
            ItemView(type=item.type, name=item.name, sku=item.sku, zone=item.zone, monthly_cost=item.monthly)
            for item in found.items
        ),
        quotas=tuple(
            QuotaView(provider=quota.provider, name=quota.name, needed=quota.needed) for quota in found.quotas
        ),
        public_addresses=found.public_addresses,
    )


def _validation_view(name: str, problems: list[ErrorDetail], changes: tuple[Change, ...]) -> ValidationView:
    views = tuple(
        ChangeView(
            type=change.ref.type.value,
            resource_group=change.ref.group,
            name=change.ref.name,
            action=change.action,
            brought=change.brought,
            differences=tuple(
                DifferenceView(path=entry.path, before=entry.before, after=entry.after) for entry in change.differences
            ),
            problem=change.problem,
        )
        for change in changes
    )
    counts = {action: sum(view.action is action for view in views) for action in ChangeAction}
    return ValidationView(name=name, valid=not problems, problems=tuple(problems), counts=counts, changes=views)
