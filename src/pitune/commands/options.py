"""The options that several commands share, one by one and in groups, and what the groups make of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from pitune.commands.config import read_config
from pitune.commands.data import Data as Data
from pitune.commands.output import note
from pitune.commands.set_up import check_file, training_settings
from pitune.defaults import BACKBONE as BACKBONE

if TYPE_CHECKING:
    from pitune import backbones
    from pitune.studies import Spread
    from pitune.tasks import Draw, Task
    from pitune.training import TrainingSettings

TASK_HELP = "A named task, a YAML that declares one, or a file or folder of data."
TaskName = Annotated[str, Argument(metavar="TASK", help=TASK_HELP)]
BackboneName = Annotated[str, Option(help="Name, checkpoint folder or hub id, such as OWNER/NAME@REVISION.")]
PoolFolder = Annotated[Path, Option("--pool", metavar="DIR", help="The pool's folder.")]
MaybePool = Annotated[Path | None, Option("--pool", metavar="DIR", help="Where the expert is, if it is given by name.")]
Method = Annotated[str, Option(help="Kind of expert, such as lora or adapter.")]
Shots = Annotated[int | None, Option(help="Examples per class; all of them unless given.")]
Folds = Annotated[
    int | None,
    Option(min=0, help="Folds of the labels, so that all train and all judge; 0 keeps some apart. By their number."),
]
By = Annotated[str, Option(help="The score that finds neighbours, such as probe or trial.")]
Neighbours = Annotated[int, Option("-k", "--k", min=1, help="How many neighbours.")]
LearningRate = Annotated[float | None, Option(help="Highest learning rate.")]
BatchSize = Annotated[int | None, Option(help="Examples per forward pass.")]


@dataclass(frozen=True)
class Common:
    """What every command takes, last of all."""

    seed: Annotated[int, Option(min=0, max=2**32 - 1, help="Decides every draw.")] = 0
    device: Annotated[str | None, Option(help="Such as cpu or cuda; cuda where there is one.")] = None
    as_json: Annotated[bool, Option("--json", help="Print one JSON object.")] = False
    config: Annotated[
        Path | None,
        Option(is_eager=True, callback=read_config, metavar="YAML", help="A file with these fields; flags win."),
    ] = None


@dataclass(frozen=True)
class Spreading:
    """Over what jobs are spread."""

    workers: Annotated[int, Option(min=1, help="Processes side by side; they share the cores.")] = 1
    ray: Annotated[
        str | None, Option(metavar="ADDRESS", help="Let Ray have them: local, auto, or a cluster's HOST:PORT.")
    ] = None

    @property
    def spread(self) -> Spread:
        """Return it as studies take it."""
        from pitune.studies import Spread

        return Spread(self.workers, self.ray)


@dataclass(frozen=True)
class Backbone:
    """Which frozen model."""

    backbone: BackboneName = BACKBONE
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16", "int8", "nf4"] | None,
        Option(help="Number format of the backbone, float32 unless given; int8 and nf4 are for linear layers."),
    ] = None


@dataclass(frozen=True)
class Html:
    """Where a page goes."""

    html: Annotated[
        Path | None, Option(metavar="FILE", help="Write a report here, one page that needs no network.")
    ] = None

    def check(self) -> None:
        """Raise `InputError` before anything long if the page cannot be written, or what writes it is not installed."""
        if self.html is not None:
            check_file(self.html)
            import_module("pitune.reports")


@dataclass(frozen=True)
class Page(Html):
    """What a page of an expert holds."""

    examples: Annotated[
        bool, Option("--examples/--no-examples", help="Show some of the task's own examples in the report.")
    ] = True


@dataclass(frozen=True)
class Computing(Common, Backbone):
    """What every command takes that computes; a dataclass has the fields of its last base first."""

    def open_backbone(self) -> backbones.Backbone:
        """Load the backbone; raise `InputError` if its name, the device or the number format is unknown."""
        from pitune.backbones import load_backbone

        return load_backbone(self.backbone, self.device, self.dtype)


@dataclass(frozen=True)
class OnTask(Computing, Data):
    """What every command takes that computes on a task's examples."""


@dataclass(frozen=True)
class Labels:
    """Which labels a run may see."""

    shots: Shots = None
    at_most: Annotated[
        bool, Option("--at-most", help="Let classes with fewer examples than --shots give what they have.")
    ] = False

    def draw(self, task: Task, seed: int) -> Draw:
        """Draw them, telling on stderr which classes gave fewer examples than were asked for."""
        from pitune.tasks import few_shot

        draw = few_shot(task, self.shots, seed, at_most=self.at_most)
        if draw.short:
            note(f"fewer than {draw.shots} examples to learn from: {', '.join(draw.short)}")
        return draw


def folds_for(draw: Draw, given: int | None) -> int:
    """Return into how many folds labels are dealt, by their number unless given; `InputError` if they are too few."""
    from pitune.training import folds_of

    folds = folds_of(len(draw.labels)) if given is None else given
    if folds and draw.validation:
        draw.folds(folds)
    return folds


@dataclass(frozen=True)
class Training:
    """How an expert is trained: fields of `TrainingSettings`."""

    steps: Annotated[int | None, Option(help="Optimiser steps at most.")] = None
    learning_rate: LearningRate = None
    batch_size: BatchSize = None
    dropout: Annotated[float | None, Option(help="Share dropped out of what a LoRA reads, as it learns.")] = None
    precision: Annotated[str | None, Option(help="Number format to compute in: fp32, bf16 or fp16.")] = None
    gradient_checkpointing: Annotated[
        bool | None, Option("--gradient-checkpointing", help="Compute layers again in the backward pass: less memory.")
    ] = None

    @property
    def given(self) -> bool:
        """Whether anything was said."""
        return any(value is not None for value in asdict(self).values())

    def of(self, draw: Draw, folds: int, method: str) -> TrainingSettings | None:
        """Return settings with what was given, the rest as labels and kind ask for; None where nothing was said."""
        from pitune.experts import KINDS
        from pitune.training import target_training

        if not self.given:
            return None
        learned = draw.labels if folds else draw.train
        return self.settings(method, target_training(len(learned), KINDS.get(method), stopped=not folds))

    def settings(self, method: str, base: TrainingSettings | None = None) -> TrainingSettings:
        """Return settings with what was given, the rest as in `base`.

        Raise `InputError` that names the flag that is wrong, or at what the kind of expert has no use for.
        """
        from pitune.experts import KINDS
        from pitune.training import check_dropout

        settings = training_settings(asdict(self), base)
        check_dropout(settings.dropout, KINDS.get(method).ranked)
        return settings
