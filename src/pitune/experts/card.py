"""What is written beside an expert: where it comes from and how good it is, as data and in words."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Value = TypeVar("Value")
OWN = "own"  # what a target's own part in a mix is called
_LARGEST = 1 << 63
_DEEPEST = 100
Whole = Annotated[int, Field(gt=-_LARGEST, lt=_LARGEST)]


def check_numbers(value: Value, depth: int = 0) -> Value:
    """Return a value of JSON; raise `ValueError` at a number or text in it that JSON cannot hold again."""
    inside = (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    if depth > _DEEPEST:
        raise ValueError(f"is more than {_DEEPEST} levels deep")
    for one in inside:
        check_numbers(one, depth + 1)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"holds {value}; expected finite numbers")
    if isinstance(value, int) and abs(value) >= _LARGEST:
        raise ValueError("holds an integer of more than 64 bits")
    return value


class Parent(BaseModel):
    """An expert that was mixed into another, and with which weight at each site."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    digest: str
    weights: dict[str, float]


class Card(BaseModel):
    """Where an expert comes from and how good it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    backbone: str = Field(description="fingerprint of the backbone's weights")
    base_model: str = Field(description="name, folder or hub id under which the backbone was loaded")
    task: str = ""
    data_hash: str = ""
    shots: Whole | None = None
    seed: Whole = 0
    metric: str = ""
    validation: float | None = None
    hyperparameters: Annotated[dict[str, Any], AfterValidator(check_numbers)] = Field(default_factory=dict)
    parents: tuple[Parent, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of all tasks that it was trained on: one, or those of a mixture."""
        named = self.hyperparameters.get("tasks")
        return tuple(map(str, named)) if isinstance(named, list | tuple) else (self.task,)

    @property
    def verdict(self) -> tuple[str, ...]:
        """What the labels that judged it said, a sentence each; none where none did."""
        kept = self.hyperparameters.get("verdict")
        return tuple(map(str, kept)) if isinstance(kept, list | tuple) else ()

    @property
    def reads(self) -> str:
        """What its task shows, such as `image + text`; empty where the card does not tell."""
        kept = self.hyperparameters.get("asked", self.hyperparameters)
        parts = kept.get("reads") if isinstance(kept, dict) else None
        return " + ".join(map(str, parts)) if isinstance(parts, list | tuple) else ""

    @property
    def parts(self) -> dict[str, float]:
        """The experts that were mixed by name, each with its mean weight over sites; those of one name are one."""
        means: dict[str, float] = {}
        for parent in self.parents:
            mean = sum(parent.weights.values()) / max(len(parent.weights), 1)
            means[parent.name] = means.get(parent.name, 0.0) + mean
        return means


def hub_id(base_model: str) -> tuple[str, str]:
    """Return the hub id and the commit of a backbone's name `OWNER/NAME@COMMIT`; no commit for any other name."""
    name, _, commit = base_model.rpartition("@")
    on_hub = re.fullmatch(r"[\w.-]+/[\w.-]+", name) and re.fullmatch(r"[0-9a-f]{7,64}", commit)
    return (name, commit) if on_hub else (base_model, "")


def base_of(card: Card) -> dict[str, str]:
    """Return what PEFT calls an expert's base model: a name that loaders resolve, and on the hub its revision."""
    name, commit = hub_id(card.base_model)
    return {"base_model_name_or_path": name, **({"revision": commit} if commit else {})}
