"""What the rounds have measured, and what follows from it: medians, spreads, ratios."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from .cases import Case, Metric, Sample

#: One round: the samples of each case, by the names of case and server. A round measures the
#: servers of a case one right after the other, so that what disturbs one disturbs all.
Round = dict[str, dict[str, Sample]]


@dataclass(frozen=True)
class Summary:
    """The median of the rounds, and the least and the most of them."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Summary:
        ordered = sorted(values)
        return cls(median(ordered), ordered[0], ordered[-1])


def figure(rounds: list[Round], case: str, server: str, key: str) -> Summary:
    """What a server reached in a case."""
    return Summary.of(one[case][server][key] for one in rounds)


def ratio(rounds: list[Round], case: str, key: str, subject: str, rival: str) -> Summary:
    """The subject's figure over the rival's: taken within each round, and then summed up."""
    return Summary.of(one[case][subject][key] / one[case][rival][key] for one in rounds)


@dataclass(frozen=True)
class Row:
    """A metric of a case, with the servers that were measured: the subject is the first."""

    case: str
    question: str
    title: str
    metric: Metric
    servers: list[str]


def rows(cases: dict[str, Case], rounds: list[Round]) -> list[Row]:
    return [
        Row(name, cases[name].question, cases[name].title, metric, list(samples))
        for name, samples in rounds[0].items()
        for metric in cases[name].metrics
    ]
