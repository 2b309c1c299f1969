"""What studies write and pages read: one model a study, which writes the file that it reads."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pitune.errors import InputError, first_problem
from pitune.files import json_bytes, write_atomic
from pitune.studies.plans import ComparePlan, PromptPlan, Stage, TransferPlan
from pitune.tasks.metrics import worth

Name = Annotated[str, Field(min_length=1, max_length=400)]
Number = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]  # figures need room to compute
Count = Annotated[int, Field(ge=0)]
_SLACK = 1e-9  # of a mean and of quantiles of other means
Key = tuple[str, str, int | None, int]
Half = Literal["validation", "test"]
PairValues = tuple[tuple[float | None, ...], ...]  # source by target; None where a pair has no measure


class Part(BaseModel):
    """A part of a file: fields that are not known stay as they are."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Environment(Part):
    """The versions and the backbone that the numbers were measured with."""

    python: str
    torch: str
    transformers: str
    peft: str
    pitune: str
    threads: int | str
    device: str = ""
    backbone: str
    fingerprint: str


class Row(Part):
    """One measured value: a method on the test part of a task.

    `untouched` says of an expert whether it changes nothing, so that the value is the backbone's own. Of accuracies
    `chance` is what is right without looking, and `claimed` how probable answers are said to be, on average. Each is
    None where it does not apply, and in rows of before it was kept.
    """

    task: Name
    method: Name
    shots: Count | None
    seed: int
    metric: str
    value: Number
    n: Count
    seconds: Number
    untouched: bool | None = None
    chance: Number | None = None
    claimed: Number | None = None

    @property
    def key(self) -> Key:
        """What the row measures."""
        return self.task, self.method, self.shots, self.seed

    @property
    def worth(self) -> float:
        """Its value such that more is better, whichever way its metric goes."""
        return worth(self.metric, self.value)


class Mean(Part):
    """A method's mean over tasks, each of which counts as the mean over its seeds."""

    method: Name
    shots: Count | None
    mean: Number
    tasks: Count


class Gain(Part):
    """A method's gain over a baseline: its mean over tasks, with the 95 % interval over draws and over tasks.

    `tasks` holds each task's mean gain; a task is a win or a loss where that is beyond half a point.
    """

    method: Name = ""
    shots: Count | None
    baseline: Name
    mean: Number
    low: Number | None
    high: Number | None
    over_tasks: tuple[Number, Number] | None = None
    tasks: dict[str, Number]
    seeds: Count
    wins: Count
    losses: Count

    @property
    def ties(self) -> int:
        """How many tasks are neither won nor lost."""
        return len(self.tasks) - self.wins - self.losses


class TaskGain(Part):
    """A method's gain over a baseline on one task: the mean over seeds and its 95 % interval, none of one seed."""

    task: Name
    shots: Count | None = None
    baseline: Name
    mean: Number
    low: Number | None
    high: Number | None
    seeds: Count

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        low, high = (self.mean if end is None else end for end in (self.low, self.high))
        if not low - _SLACK <= self.mean <= high + _SLACK:
            raise ValueError(f"expected low ≤ mean ≤ high; found {self.low}, {self.mean}, {self.high}")
        return self


class Results(Part):
    """What all results have in common. What a file lacks is not made up when it is written again."""

    written_by: ClassVar[str] = "pitune study"

    version: Literal[1] = Field(alias="schema")
    environment: Environment
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, value: Any, where: str | Path = "results") -> Self:
        """Return results out of JSON's values; raise `InputError` naming the first field that is missing or wrong."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise cls._refused(error, where) from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file; raise `InputError` if it cannot be read or a field is missing or wrong."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            what = error.strerror or error
            raise InputError(f"{path}: cannot be read ({what}); expected the results of `{cls.written_by}`") from error
        except ValidationError as error:
            raise cls._refused(error, path) from error

    @classmethod
    def _refused(cls, error: ValidationError, where: str | Path) -> InputError:
        return InputError(f"{where}: {first_problem(error)}; expected the results of `{cls.written_by}`")

    def described(self) -> dict[str, Any]:
        """Return the results as JSON holds them."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    def write(self, path: Path) -> Self:
        """Write the file whole, and return what was written."""
        write_atomic(path, json_bytes(self.described()))
        return self


class CompareResults(Results):
    """`results.json` of `pitune study compare`."""

    written_by = "pitune study compare"

    plan: ComparePlan
    means: tuple[Mean, ...]
    gains: tuple[Gain, ...]


class SettingsResults(Results):
    """`settings.json` of `pitune study settings`."""

    written_by = "pitune study settings"

    means: tuple[Mean, ...]
    gains: tuple[Gain, ...]


class PromptsResults(Results):
    """`results.json` of `pitune study coop`, `elevater` and `cross-task`."""

    written_by = "pitune study coop"

    study: str
    plan: PromptPlan
    means: tuple[Mean, ...]
    gains: tuple[Gain, ...]


class Correlation(Part):
    """Spearman's rank correlation over pairs of tasks; None where there are too few."""

    rho: Number | None
    pairs: Count


class TransferResults(Results):
    """`results.json` of `pitune study transfer`: matrices (N, N) over tasks, by part and stage, and by similarity."""

    written_by = "pitune study transfer"

    study: Literal["transfer"]
    plan: TransferPlan
    tasks: tuple[Name, ...]
    transfer: dict[Half, dict[Stage, PairValues]]
    similarity: dict[str, tuple[tuple[Number, ...], ...]]
    correlations: dict[Stage, dict[str, Correlation]]


class Spread(Part):
    """A mean over targets with its 95 % interval over them, none of one target."""

    mean: Number
    low: Number | None
    high: Number | None


class Summary(Part):
    """How well a predictor ranks sources: see `pitune.studies.ranking.Quality` for what is meant by each."""

    predictor: str
    targets: Count
    seeds: Count
    spearman: Spread
    regret: Spread
    recall: Spread
    gain: Spread
    by_target: dict[str, Number]


class Reliability(Part):
    """How far measured ranks can be trusted: two halves of the test, the whole of it, and what truth would reach."""

    targets: Count
    halves: Number
    whole: Number
    ceiling: Number


class PredictorsResults(Results):
    """`predictors.json` of `pitune study predictors`, by what is measured of a source's expert."""

    written_by = "pitune study predictors"

    plan: ComparePlan
    predictors: dict[str, tuple[Summary, ...]]
    reliability: dict[str, Reliability | None]


class PackedRows(Part):
    """Rows as lists of the values of named columns, as `docs/data` keeps the many of the study of predictors."""

    version: Literal[1] = Field(alias="schema")
    command: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]

    def unpacked(self) -> list[Row]:
        """Return them as rows."""
        return [Row.model_validate(dict(zip(self.columns, row, strict=True))) for row in self.rows]


class ExpertScore(Part):
    """How good one expert is at its own task."""

    metric: str
    value: Number


class Graph(Part):
    """Experts, their tasks, and the similarity (N, N) of every two; what kind of task and how good is optional."""

    names: tuple[Name, ...] = Field(min_length=2)
    tasks: tuple[Name, ...]
    similarity: tuple[tuple[Number, ...], ...]
    kinds: tuple[str, ...] | None = None
    scores: tuple[ExpertScore | None, ...] | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        count = len(self.names)
        lists: dict[str, tuple[Any, ...] | None] = {"tasks": self.tasks, "kinds": self.kinds, "scores": self.scores}
        for field, values in lists.items():
            if values is not None and len(values) != count:
                raise ValueError(f"{field} has {len(values)} entries; expected {count}, one for each of names")
        if len(self.similarity) != count or any(len(row) != count for row in self.similarity):
            raise ValueError(f"similarity is not {count} × {count}; expected a row and a column for each of names")
        if any(abs(row[j] - self.similarity[j][i]) > 1e-6 for i, row in enumerate(self.similarity) for j in range(i)):
            raise ValueError("similarity is not symmetric; expected the same value for two tasks either way round")
        return self


class TriedMix(Part):
    """One way to use the neighbours, judged on validation data."""

    name: str
    validation: Number
    loss: Number | None
    steps: Count = 0
    best_step: Count = 0


class TunedTarget(Part):
    """What π-Tuning chose for one target; `weights` are by group of sites, then by expert."""

    shots: Count | None
    neighbours: tuple[tuple[Name, Number], ...]
    weights: dict[str, dict[str, Number]]
    choice: str = ""
    candidates: tuple[TriedMix, ...] = ()


class DemoResults(Results):
    """`results.json` of `pitune demo`."""

    written_by = "pitune demo"

    command: str
    graph: Graph
    targets: dict[str, TunedTarget]
    gains: tuple[TaskGain, ...]

    @model_validator(mode="after")
    def _one_row_each(self) -> Self:
        for key, count in Counter(row.key for row in self.rows).items():
            if count > 1:
                task, method, shots, seed = key
                raise ValueError(
                    f"found {count} rows of task {task!r}, method {method!r}, shots {shots}, seed {seed}; expected one"
                )
        return self
