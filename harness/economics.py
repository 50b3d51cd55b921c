"""The economics of a deployment, as people type them: volume, value, limits, serving, people's hours.

What is measured comes from a run, what is priced from the price book; everything else that a decision needs
is here, with a default. `assumed` tells which values nobody gave. What they add up to: `ownership`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from breakeven.harness.errors import UserError
from breakeven.harness.yamlfile import validated

MONTHS_A_YEAR = 12
HOURS_A_MONTH = 730.0

#: A number or an array of them.
Number = TypeVar("Number", bound=Any)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class People(_Strict):
    """Hours of people, and what an hour costs. The defaults are round guesses: replace them by your own."""

    hourly_rate: float = Field(60.0, ge=0, description="one hour of work")
    label_minutes: float = Field(0.5, ge=0, description="labelling one example that a strategy needs")
    prompt_hours: float = Field(4.0, ge=0, description="writing and trying out the prompt, once")
    build_hours: float = Field(
        8.0, ge=0, description="setting up retrieval, tuning or a classifier, each once"
    )
    deploy_hours: float = Field(8.0, ge=0, description="putting a model of one's own into service, once")
    documents_hours_a_month: float = Field(2.0, ge=0, description="keeping documents current")
    reevaluate_hours_a_month: float = Field(1.0, ge=0, description="checking that it still works")
    retrain_hours: float = Field(4.0, ge=0, description="every retraining")


class ErrorCosts(_Strict):
    """What a wrong answer costs, by the reference's label or by a column of the rows (`meta`)."""

    by: str = Field("label", min_length=1, description="label, or the name of a column")
    costs: dict[str, float] = Field(min_length=1, description="cost of one wrong answer, by value")
    default: float = Field(0.0, ge=0, description="where the value is not listed")


class Incumbent(_Strict):
    """What is in service today, where it is none of the suite's strategies.

    Either its answers to the test examples (`predictions`: a file with the columns id and output, and seconds
    where known), which are scored like everybody's, or its quality as somebody states it.
    """

    name: str = Field("today", min_length=1)
    predictions: str | None = None
    quality: float | None = Field(None, description="on the primary metric")
    cost_per_1000: float | None = Field(None, ge=0, description="of 1,000 requests; unknown unless said")
    p95: float | None = Field(None, gt=0, description="latency in seconds")

    @model_validator(mode="after")
    def _either(self) -> Incumbent:
        if (self.predictions is None) == (self.quality is None):
            raise ValueError("needs either predictions (a file of its answers) or its quality")
        if self.predictions is not None and self.p95 is not None:
            raise ValueError("p95 goes with quality; with predictions it comes from their column seconds")
        return self


class Economics(_Strict):
    """What the decision needs to know of the deployment. Money is in `currency`."""

    use_case: str = ""
    improve: Literal["", "accuracy", "format", "style", "knowledge", "cost", "latency"] = ""
    currency: str = Field("USD", pattern="^[A-Z]{3}$")

    requests_per_month: float = Field(10_000, gt=0, description="requests in the first month")
    growth_per_month: float = Field(
        0.0, gt=-1, le=1, description="share by which each month exceeds the last"
    )
    horizon_months: int = Field(12, ge=1, le=120, description="months the decision is made for")
    peak_per_second: float | None = Field(None, gt=0, description="busiest second of the first month")
    peak_factor: float = Field(
        4.0, ge=1, description="busiest second over the mean one, where no peak is given"
    )

    value_per_correct: float | None = Field(None, ge=0, description="worth of one more correct answer")
    error_costs: ErrorCosts | None = None
    margin: float = Field(0.02, ge=0, description="difference in quality that does not matter")
    quality_floor: float | None = Field(None, description="quality below which nothing goes into service")
    latency_ceiling: float | None = Field(None, gt=0, description="p95 in seconds")
    exclude_hosts: list[str] = Field([], description="where data must not go")
    incumbent: str | Incumbent | None = None

    hardware: str = Field("cpu-2", description="machine that serves models of one's own")
    machines: dict[str, str] = Field({}, description="strategy: another machine")
    projected: bool = True  # False when the run was made on `hardware` itself
    utilisation: float = Field(0.5, gt=0, le=1, description="share of a machine's hour that does work")
    serving: Literal["shared", "dedicated"] = Field(
        "shared", description="own models: pay for the seconds used, or for whole machines"
    )
    adapters_per_machine: int = Field(1, ge=1, description="adapters that share one dedicated machine")
    deployments: dict[str, str] = Field({}, description="strategy: price of its hosted deployment's hour")
    cached_discount: bool = Field(False, description="count the provider's discount on cached input")
    retrain_every_months: int | None = Field(None, ge=1, description="months between two trainings")
    people: People = People()  # type: ignore[call-arg]

    def assumed(self, name: str) -> bool:
        """Whether nobody gave this setting ("margin", "people.hourly_rate")."""
        head, _, rest = name.partition(".")
        if head not in type(self).model_fields:
            raise KeyError(name)
        if head == "people" and rest:
            return "people" not in self.model_fields_set or rest not in self.people.model_fields_set
        return head not in self.model_fields_set

    def settings(self) -> Iterator[tuple[str, Any, bool, str]]:
        """(name, value, assumed, what it is) of everything that goes into a decision."""
        for name, field in type(self).model_fields.items():
            if name in ("use_case", "improve", "people"):
                continue
            yield name, getattr(self, name), self.assumed(name), field.description or ""
        for name, field in People.model_fields.items():
            dotted = f"people.{name}"
            yield dotted, getattr(self.people, name), self.assumed(dotted), field.description or ""

    def requests(self, month: int, first: Number) -> Number:
        """Requests in a month, counted from 0, when the first has `first`."""
        made: Number = first * (1 + self.growth_per_month) ** month
        return made

    def retrainings(self, months: int) -> int:
        """How often a strategy is trained again within so many months."""
        every = self.retrain_every_months
        return 0 if every is None else max(0, math.ceil(months / every) - 1)


#: Short names that `report --set` takes for prices, beside every setting above.
PRICE_KEYS = ("machine_hour", "gpu_hour", "api_price")


def read(data: Mapping[str, Any]) -> Economics:
    """From a frozen suite's `economics`."""
    return validated(Economics, dict(data))


def changed(economics: Economics, changes: Sequence[str]) -> tuple[Economics, dict[str, float]]:
    """The economics with `--set` changes, and the prices among them.

    Args:
        changes: "key=value"; keys are those of `Economics` (dotted for people) and `PRICE_KEYS`: the price of
            an hour of the machine that serves own models, and a factor on all token prices.

    Raises:
        UserError: there is no such key, or the value does not fit.
    """
    data = economics.model_dump(mode="json", exclude_unset=True)
    prices: dict[str, float] = {}
    for change in changes:
        key, equals, raw = change.partition("=")
        key = key.strip().removeprefix("economics.")
        if not equals or not key:
            raise UserError(f"'{change}' is no change", field="--set", hint="write it as key=value")
        try:
            value = yaml.safe_load(raw)
        except yaml.YAMLError as error:
            raise UserError(f"'{raw}' is not a YAML value", field=f"--set {key}") from error
        if isinstance(value, str):
            value = _number(value)  # YAML 1.1 reads 2e6 as text
        if key in PRICE_KEYS:
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise UserError(f"'{raw}' is no price", field=f"--set {key}", hint="a number from 0 up")
            prices["machine_hour" if key == "gpu_hour" else key] = float(value)
            continue
        *parents, last = key.split(".")
        if key.split(".")[0] not in Economics.model_fields:
            known = ", ".join((*Economics.model_fields, *PRICE_KEYS))
            raise UserError(f"there is no setting '{key}'", field="--set", hint=f"known: {known}")
        target = data
        for part in parents:
            target = target.setdefault(part, {})
            if not isinstance(target, dict):
                raise UserError(f"'{part}' in '{key}' holds a value, not keys", field="--set")
        target[last] = value
    return validated(Economics, data), prices


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text
