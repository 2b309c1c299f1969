"""What `results.json` holds, checked before anything is drawn from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pitune.errors import InputError

Name = Annotated[str, Field(min_length=1, max_length=400)]
Number = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]  # figures need room to compute
Count = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Environment(_Part):
    """The versions and the backbone that the numbers were measured with."""

    python: str
    torch: str
    transformers: str
    peft: str
    pitune: str
    threads: int | str
    backbone: str
    fingerprint: str


class Score(_Part):
    """How good one expert is at its own task."""

    metric: str
    value: Number


class Graph(_Part):
    """Experts, their tasks, and the similarity (N, N) of every two; what kind of task and how good is optional."""

    names: tuple[Name, ...] = Field(min_length=2)
    tasks: tuple[Name, ...]
    similarity: tuple[tuple[Number, ...], ...]
    kinds: tuple[str, ...] | None = None
    scores: tuple[Score | None, ...] | None = None

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


class Candidate(_Part):
    """One way of mixing that was tried, judged on validation data."""

    name: str
    validation: Number
    loss: Number


class Target(_Part):
    """What π-Tuning chose for one target; `weights` are by group of sites, then by expert."""

    shots: Count | None
    neighbours: tuple[tuple[Name, Number], ...]
    weights: dict[str, dict[str, Number]]
    choice: str = ""
    candidates: tuple[Candidate, ...] = ()


class Row(_Part):
    """One measurement on test data."""

    task: Name
    method: Name
    shots: Count | None
    seed: int
    metric: str
    value: Number
    n: Count
    seconds: Number


class Gain(_Part):
    """π minus a baseline: the mean over seeds and its 95% interval."""

    task: Name
    baseline: Name
    mean: Number
    low: Number
    high: Number
    seeds: Count

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.low <= self.mean <= self.high:
            raise ValueError(f"expected low ≤ mean ≤ high; found {self.low}, {self.mean}, {self.high}")
        return self


class Results(_Part):
    """The whole of `results.json`."""

    version: Literal[1] = Field(alias="schema")
    environment: Environment
    command: str
    graph: Graph
    targets: dict[str, Target]
    rows: tuple[Row, ...]
    gains: tuple[Gain, ...]


def read_results(results: Mapping[str, Any]) -> Results:
    """Check a results object; raise `InputError` naming the first field that is missing or wrong."""
    try:
        found = Results.model_validate(results)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise InputError(
            f"results: field {where!r}: {first['msg']}; expected the results.json that `pitune demo` writes"
        ) from error
    keys = Counter((row.task, row.method, row.shots, row.seed) for row in found.rows)
    for (task, method, shots, seed), count in keys.items():
        if count > 1:
            what = f"task {task!r}, method {method!r}, shots {shots}, seed {seed}"
            raise InputError(f"results: field 'rows': found {count} rows of {what}; expected one")
    return found
