"""What a cluster costs a month beside its VMs: counted operations times stated prices.

The operations per post and per audit are counted by this benchmark; the prices are Azure's pay-as-you-go list prices as
remembered, not fetched (see `PRICES_USD`); change them there and run again. Two shapes are computed: a heartbeat post
every 10 s (the default of a cluster's timing) and one every 5 s. A node that changes posts at once, beside its rhythm;
changes are too rare to count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

MONTH_S: Final = 30 * 86400
NODES: Final = 2
AUDIT_PERIOD_S: Final = 30
RETENTION_DAYS: Final = 14
HEARTBEAT_ROW_BYTES: Final = 1400  # a row of the history with its keys and overhead
PROBE_ROW_BYTES: Final = 700

PRICES_USD: Final = {
    "table_operations_per_10000": 0.00036,
    "table_storage_gb_month": 0.045,
    "functions_execution_per_million": 0.40,
    "functions_gb_s": 0.000026,
}
INSTANCE_GB: Final = 0.5
# The Flex plan bills an instance that wakes up for a second at least. A single cluster wakes it at every post; with
# many the posts share its seconds. (The monthly free grant of 100,000 GB-s is not taken off.)
SHORTEST_BILLED_S: Final = 1.0


@dataclass(frozen=True)
class Counts:
    """Processor time of the worker, and requests to the tables. An instance works on many posts at once and its time is
    billed once, so a busy instance costs its processor's time."""

    cpu_s_per_post: float
    operations_per_post: float
    audit_operations_per_cluster: float
    audit_cpu_s_per_cluster: float


def cost(counts: Counts, post_every_s: float) -> dict[str, Any]:
    posts = NODES * MONTH_S / post_every_s
    audits = MONTH_S / AUDIT_PERIOD_S
    operations = posts * counts.operations_per_post + audits * counts.audit_operations_per_cluster
    rows_bytes = (
        RETENTION_DAYS * 86400 * (NODES * HEARTBEAT_ROW_BYTES / post_every_s + PROBE_ROW_BYTES / AUDIT_PERIOD_S)
    )
    instance_s = posts * counts.cpu_s_per_post + audits * counts.audit_cpu_s_per_cluster
    parts = {
        "table_operations": operations / 10_000 * PRICES_USD["table_operations_per_10000"],
        "table_storage": rows_bytes / 1e9 * PRICES_USD["table_storage_gb_month"],
        "function_executions": posts / 1e6 * PRICES_USD["functions_execution_per_million"],
        "function_time": instance_s * INSTANCE_GB * PRICES_USD["functions_gb_s"],
    }
    alone = parts | {"function_time": (posts + audits) * SHORTEST_BILLED_S * INSTANCE_GB * PRICES_USD["functions_gb_s"]}
    return {
        "post_every_s": post_every_s,
        "usd": round(sum(parts.values()), 3),
        "usd_of_a_single_cluster": round(sum(alone.values()), 2),
        "of_which": {name: round(value, 4) for name, value in parts.items()},
        "posts": round(posts),
        "table_operations": round(operations),
    }
