"""What there is to learn of a task, before anybody trains on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pitune.tasks.draw import Draw, few_shot
from pitune.tasks.formats.reading import told_templates
from pitune.tasks.task import SPLITS, Task

_NAMED = 5


@dataclass(frozen=True)
class Outlook:
    """What a fit will do with a task: how many examples its parts have, and which of them it will see.

    `rarest` and `commonest` name a class with its number of training examples. `train` and `validation` are how many
    labels of these parts it sees; `short` are the classes with fewer than `shots` to learn from. `longest`
    is the number of words of the longest text, `templates` what answers are matched as.
    """

    parts: Mapping[str, int]
    classes: int
    rarest: tuple[str, int]
    commonest: tuple[str, int]
    longest: int
    shots: int | None
    train: int
    validation: int
    short: tuple[str, ...] = ()
    templates: tuple[str, ...] = ("{}",)

    @property
    def line(self) -> str:
        """All of it in one line."""
        parts = ", ".join(f"{number} {part}" for part, number in self.parts.items())
        drawn = "all of them" if self.shots is None else f"{self.shots} shots"
        said = [
            f"fit will use: {parts}",
            f"{self.classes} classes" if self.classes else "open answers",
            f"to learn from {self.rarest[1]} of the rarest {self.rarest[0]!r} to {self.commonest[1]} of the commonest "
            f"{self.commonest[0]!r}",
            f"with {drawn} {self.train} training and {self.validation} validation labels",
        ]
        if not self.classes:
            del said[2]
        if self.longest:
            said.append(f"the longest text of {self.longest} words")
        if self.templates != ("{}",):
            said.append(told_templates(self.templates))
        return "; ".join(said)

    @property
    def warning(self) -> str:
        """What a draw of so many shots lacks, or nothing."""
        if not self.short:
            return ""
        more = f" and {len(self.short) - _NAMED} more" if len(self.short) > _NAMED else ""
        named = ", ".join(map(repr, self.short[:_NAMED]))
        return f"fewer than {self.shots} to learn from: {named}{more}; fit takes what they have with --at-most"


def outlook(task: Task, shots: int | None = None, seed: int = 0) -> Outlook:
    """Return what a fit of a task will use; raise `InputError` where there is nothing to learn or to stop by."""
    draw: Draw = few_shot(task, shots, seed, at_most=True)
    times = Counter(dict.fromkeys(task.answers or (), 0))
    times.update(answer for example in task.examples("train") for answer in example.right)
    ranked = sorted(times.items(), key=lambda one: (one[1], one[0]))
    texts = (example.text or "" for examples in task.splits.values() for example in examples)
    return Outlook(
        parts={part: len(task.splits[part]) for part in SPLITS if task.splits.get(part)},
        classes=len(task.answers or ()),
        rarest=ranked[0],
        commonest=ranked[-1],
        longest=max((len(text.split()) for text in texts), default=0),
        shots=shots,
        train=len(draw.train),
        validation=len(draw.validation),
        short=draw.short if shots is not None else (),
        templates=task.answer_templates,
    )
