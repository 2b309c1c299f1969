"""What an expert does on examples that it has not learned from: how good, on which, and what that passes or fails."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from pitune.backbones import Backbone
from pitune.experts import Expert
from pitune.tasks import Example, Task, open_image, spread
from pitune.tasks.metrics import METRICS
from pitune.training.answers import answer
from pitune.training.evaluate import Evaluation, evaluate_expert
from pitune.training.judgement import Difference, Judgement, differences, judge
from pitune.training.worth import chance, wilson

_COMPARED = 1_000  # examples at most that others are measured on beside an expert
_SHOWN = 6  # examples that were answered right, and as many that were not
_LETTERS, _PIXELS, _SMALL = 300, 160, 64


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Shown(_Model):
    """An example and how it was answered; `image` is a small copy as a `data:` address."""

    text: str
    image: str
    right: str
    answer: str
    probability: float | None


class Condition(_Model):
    """Something that an expert should be: whether it is, by 95 % intervals, and the numbers in words."""

    name: str
    passed: bool
    said: str


class Outcome(_Model):
    """How an expert answers one part of a task.

    `chance` is what a share is right without looking, by what is called so, where the metric is accuracy. `over` says
    by how much it is better than others on the same examples, whichever way its metric goes.
    """

    split: str
    judgement: Judgement
    chance: tuple[str, float] | None
    over: dict[str, Difference]
    right: tuple[Shown, ...] = ()
    wrong: tuple[Shown, ...] = ()

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What the numbers pass or fail, as far as the metric can tell."""
        return tuple(one for one in (self._guessing(), self._harm(), self._sureness()) if one is not None)

    def _guessing(self) -> Condition | None:
        if self.chance is None:
            return None
        (what, share), low, high = self.chance, self.judgement.low or 0.0, self.judgement.high or 1.0
        said = f"{self.judgement.metric} {self.judgement.value:.3f} [{low:.3f}, {high:.3f}]; {what} has {share:.3f}"
        return Condition(name="better than guessing", passed=low > share, said=said)

    def _harm(self) -> Condition | None:
        if not self.over:
            return None
        said = [f"{one.value:+.3f}{one.spread} over {name}" for name, one in self.over.items()]
        harmed = any((one.value if one.high is None else one.high) < 0 for one in self.over.values())
        return Condition(name="no harm", passed=not harmed, said="; ".join(said))

    def _sureness(self) -> Condition | None:
        found = self.judgement.calibration
        if found is None:
            return None
        low, high = wilson(found.right, self.judgement.n)
        right = f"{found.right:.3f} [{low:.3f}, {high:.3f}]"
        said = f"its answers claim {found.probability:.3f} on average and are right {right}"
        return Condition(name="not too sure", passed=found.probability <= high, said=said)


def outcome(
    backbone: Backbone,
    task: Task,
    expert: Expert,
    split: Literal["train", "validation", "test"] = "test",
    *,
    beside: Mapping[str, Expert | None] | None = None,
) -> Outcome:
    """Return how an expert answers one part of a task, and by how much better than others, None the backbone alone.

    The others are measured on at most 1,000 examples.
    """
    examples = task.examples(split)
    seen = evaluate_expert(backbone, task, expert, examples)
    some = list(examples) if len(examples) <= _COMPARED else spread(examples, _COMPARED)
    own = seen if len(some) == len(examples) else evaluate_expert(backbone, task, expert, some)
    over = {
        name: _over(task, some, own, evaluate_expert(backbone, task, other, some))
        for name, other in (beside or {}).items()
    }
    right, wrong = _picked(examples, seen)
    return Outcome(
        split=split,
        judgement=judge(task, examples, seen),
        chance=chance(examples) if task.metric == "accuracy" else None,
        over=over,
        right=_shown(backbone, task, expert, right),
        wrong=_shown(backbone, task, expert, wrong),
    )


def _over(task: Task, examples: Sequence[Example], own: Evaluation, other: Evaluation) -> Difference:
    found = differences(task, examples, {"other": other, "own": own})["own"]
    if METRICS.get(task.metric).higher_is_better:
        return found
    ends = (None, None) if found.low is None or found.high is None else (-found.high, -found.low)
    return Difference(value=-found.value, low=ends[0], high=ends[1])


def _picked(examples: Sequence[Example], seen: Evaluation) -> tuple[list[Example], list[Example]]:
    """Return a few examples that were answered right, and a few that were not, spread over all of them."""
    by_id = {one.id: one for one in examples}
    best = seen.scores.argmax(-1)
    if seen.scores.shape[1] < 2:
        right = [
            said.strip().lower() in map(str.lower, by_id[name].right)
            for name, said in zip(seen.ids, seen.written, strict=False)
        ]
    elif seen.relevant is not None:
        right = seen.relevant.bool().gather(1, best[:, None])[:, 0].tolist()
    else:
        right = (best == seen.target).tolist()
    parts = (
        [by_id[name] for name, is_right in zip(seen.ids, right, strict=False) if is_right == wanted]
        for wanted in (True, False)
    )
    some, others = (spread(part, _SHOWN) if part else [] for part in parts)
    return some, others


def _shown(backbone: Backbone, task: Task, expert: Expert, examples: Sequence[Example]) -> tuple[Shown, ...]:
    answers = answer(backbone, task, expert, examples) if examples else []
    return tuple(
        Shown(
            text=(one.text or "")[:_LETTERS],
            image=_small(one) if one.image is not None else "",
            right=", ".join(one.right)[:_LETTERS],
            answer=said.answer[:_LETTERS],
            probability=said.probability,
        )
        for one, said in zip(examples, answers, strict=True)
    )


def _small(example: Example) -> str:
    image, sink = open_image(example), io.BytesIO()
    image.thumbnail((_PIXELS, _PIXELS))
    kind = "PNG" if max(image.size) <= _SMALL else "JPEG"
    image.save(sink, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(sink.getvalue()).decode()}"
