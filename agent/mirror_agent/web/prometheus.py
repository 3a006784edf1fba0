"""The Prometheus text format, version 0.0.4: families with HELP and TYPE, samples with escaped labels.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/ (text-based format). Own writer instead of
prometheus-client, because the values are snapshots of another process; what is needed of the format is below.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")


class Type(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class Family:
    """Name, type and sentence of one metric. Counters end in `_total` (naming conventions of Prometheus)."""

    name: str
    type: Type
    help: str

    def __post_init__(self) -> None:
        assert _NAME.fullmatch(self.name), f"{self.name!r} is no name of a metric"
        assert (self.type is Type.COUNTER) == self.name.endswith("_total"), f"{self.name!r}: counters end in _total"


@dataclass(frozen=True)
class Sample:
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Histogram:
    """Not cumulative `counts`, one more than `bounds`."""

    bounds: Sequence[float]
    counts: Sequence[int]
    sum: float


def number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(float(value))


def line(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{inside}}} {number(value)}" if inside else f"{name} {number(value)}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def family_lines(family: Family, samples: Iterable[Sample | Histogram], common: Mapping[str, str]) -> list[str]:
    """HELP, TYPE and samples; nothing at all without a sample."""
    lines: list[str] = []
    for sample in samples:
        if isinstance(sample, Histogram):
            lines += _histogram_lines(family.name, sample, common)
        else:
            lines.append(line(family.name, {**common, **sample.labels}, sample.value))
    if not lines:
        return []
    told = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    return [f"# HELP {family.name} {told}", f"# TYPE {family.name} {family.type.value}", *lines]


def _histogram_lines(name: str, histogram: Histogram, common: Mapping[str, str]) -> list[str]:
    lines, below = [], 0
    for bound, count in zip((*histogram.bounds, math.inf), histogram.counts, strict=True):
        below += count
        lines.append(line(f"{name}_bucket", {**common, "le": number(bound)}, below))
    return [*lines, line(f"{name}_sum", common, histogram.sum), line(f"{name}_count", common, below)]
