"""What a metric is, and what it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pitune.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Chosen:
    """Scores (N, C) of answers, the right one's index (N,), all right ones (N, C) if several, the C texts if known."""

    scores: Tensor
    target: Tensor
    relevant: Tensor | None = None
    answers: tuple[str, ...] = ()

    @property
    def right(self) -> Tensor:
        """Which answers are right (N, C)."""
        if self.relevant is not None:
            return self.relevant
        return self.target[:, None] == self.target.new_tensor(range(self.scores.shape[1]))


def _any(answer: str) -> bool:
    return True


@dataclass(frozen=True)
class Metric:
    """A number that says how well a task's examples are answered, from `low` to `high`.

    Where it `reads` scores, `compute` takes a `Chosen`; where it reads text, it takes N written answers and, for each
    of them, the right ones. `several` says that it looks at every right answer, so that training does too, and `mean`
    that it is the mean of what it is on each example by itself. `accepts` says whether it can read an answer of a task,
    and `answers` in a word what those are. `about` is one line for lists.
    """

    name: str
    about: str
    compute: Callable[..., float]
    reads: Literal["scores", "text"] = "scores"
    several: bool = False
    mean: bool = False
    low: float = 0.0
    high: float = 1.0
    higher_is_better: bool = True
    answers: str = "answers"
    accepts: Callable[[str], bool] = _any

    def worth(self, value: float) -> float:
        """Return a value such that more is better."""
        return value if self.higher_is_better else -value

    def check(self, task: str, answers: Sequence[str], listed: bool) -> None:
        """Raise `InputError` unless it can measure a task of these answers, `listed` to choose from or not."""
        if self.reads == "scores" and not listed:
            raise InputError(
                f"task {task!r} has open answers, and {self.name} reads the scores of listed ones; list the answers, "
                "or choose a metric that reads text, such as exact-match"
            )
        for answer in answers:
            if not self.accepts(answer):
                raise InputError(
                    f"task {task!r}: {self.name} reads {self.answers}, found the answer {answer!r}; correct it, or "
                    "choose another metric"
                )
