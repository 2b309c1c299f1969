"""What to learn: a task, its examples, and its fixed parts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pitune import defaults
from pitune.errors import InputError
from pitune.files import sha256_bytes
from pitune.tasks.metrics import METRICS

Split = Literal["train", "validation", "test"]
_LONGEST_STEM = 38  # what is left of an expert's 64 letters for its kind, shots and seed
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True)
class Example:
    """One input and its right answer.

    An image is kept encoded (a file's path or its bytes) and decoded only when a backbone asks.
    `candidates` holds the answers to choose from where they differ by example; otherwise the
    task's own `answers` hold for all. `references` holds every right answer where there are several:
    the labels of a picture, the answers of ten people, the captions of an image; `target` is the one
    to learn from.
    """

    id: str
    target: str
    text: str | None = None
    image: bytes | Path | None = None
    candidates: tuple[str, ...] | None = None
    references: tuple[str, ...] = ()

    @property
    def right(self) -> tuple[str, ...]:
        """Every right answer."""
        return self.references or (self.target,)


@dataclass(frozen=True)
class Wording:
    """How an answer is put into words: its bare name, and the texts that an input is matched against."""

    name: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """A named set of examples in fixed parts, and how to ask for and score their answers.

    `template` turns an example's text into the backbone's input text (`{}` is the text);
    `answer_template` turns an answer into the text that the input is matched against; with `more_templates` it is
    matched against the mean of the unit vectors of them all (CLIP's ensemble), where no learned vectors stand in for
    a template. `wordings` are those of answers that are texts in full already. `answers` is None
    where any text may be an answer. `metric` is a registered one, by default accuracy of listed answers and exact
    match of others; `InputError` if there is none of that name, or it cannot read these answers. Where the task is
    not `balanced`, some answers may be too rare for every part to hold them, as in visual question answering.
    `weights` say how much a class counts in training's loss, by its name, or `balanced` by how rare it is.
    """

    name: str
    splits: Mapping[Split, Sequence[Example]]
    answers: tuple[str, ...] | None = None
    template: str = "{}"
    answer_template: str = "{}"
    metric: str = ""
    licence: str = "unknown"
    provenance: str = ""
    balanced: bool = True
    data_hash: str = field(default="", compare=False)
    more_templates: tuple[str, ...] = ()
    wordings: Mapping[str, Wording] = field(default_factory=dict, repr=False)
    weights: Mapping[str, float] | Literal["balanced"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        some = [found[0] for found in self.splits.values() if found]
        listed = self.answers is not None or not some or any(example.candidates for example in some)
        if not self.metric:
            object.__setattr__(self, "metric", "accuracy" if listed else "exact-match")
        right = self.answers or tuple(answer for example in some for answer in example.right)
        METRICS.get(self.metric).check(self.name, right, listed)

    @property
    def stem(self) -> str:
        """The part of an expert's name that says which task it is for."""
        return stem_of(self.name)

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides what is learned of it, as JSON holds it: its data, and how its answers are asked for."""
        held = {"answers": self.answers, "metric": self.metric, "weights": self.weights or None}
        asked = {"template": self.template, "answer_templates": self.answer_templates}
        return {"name": self.name, "data": self.data_hash, **held, **asked}

    def examples(self, split: Split) -> Sequence[Example]:
        """Return one part; raise `InputError` if the task has no such part or it is empty."""
        found = self.splits.get(split)
        if not found:
            have = ", ".join(name for name in SPLITS if self.splits.get(name))
            raise InputError(f"task {self.name!r} has no {split} examples (it has: {have or 'none'})")
        return found

    @property
    def answer_templates(self) -> tuple[str, ...]:
        """All templates of an answer; several make an ensemble."""
        return (self.answer_template, *self.more_templates)

    def answer_text(self, answer: str) -> str:
        """Return the text an answer is matched as, the first of several."""
        return self.wording(answer).texts[0]

    def wording(self, answer: str) -> Wording:
        """Return how an answer is put into words."""
        known = self.wordings.get(answer)
        return known or Wording(answer, tuple(template.format(answer) for template in self.answer_templates))

    def input_text(self, example: Example) -> str | None:
        """Return the text a backbone reads for `example`, or None if it has none."""
        return None if example.text is None else self.template.format(example.text)

    def candidates(self, example: Example) -> tuple[str, ...]:
        """Return the answers that `example` chooses from."""
        found = example.candidates or self.answers
        if found is None:
            raise InputError(f"task {self.name!r} has open answers; example {example.id!r} lists no candidates")
        return found


def short_name(task: str) -> str:
    """Return a task's name as figures and tables show it: those of the default backbone without its name in front."""
    return task.removeprefix(f"{defaults.BACKBONE}/")


def stem_of(task: str) -> str:
    """Return the part of an expert's name that says which task it is for.

    Accents, brackets and the like are left out; where letters are lost, or the name is long, a hash keeps names apart.
    """
    wanted = short_name(task).lower().replace("/", "-").replace(" ", "-")
    if re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,47}", wanted):
        return wanted
    plain = unicodedata.normalize("NFKD", wanted)
    lost = any(one.isalnum() and not one.isascii() for one in plain)
    plain = re.sub(r"[^a-z0-9._]+", "-", "".join(one for one in plain if not unicodedata.combining(one))).strip("-._")
    if not lost and 0 < len(plain) <= _LONGEST_STEM:
        return plain
    return f"{plain[:_LONGEST_STEM].strip('-._') or 'task'}-{sha256_bytes(task.encode(errors='replace'))[:8]}"
