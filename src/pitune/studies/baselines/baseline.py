"""A method in a study, and all there are by name: the one list to add to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pitune.experts import Expert
from pitune.registry import Registry
from pitune.studies.rows import Measured
from pitune.studies.trial import Trial
from pitune.tasks import Task

SINGLE, PI = "single", "pi"


def _always(task: Task) -> bool:  # a lambda could not be sent to worker processes
    return True


@dataclass(frozen=True)
class Baseline:
    """One way to use a few labels, and what studies and pages need to know of it.

    `run` gives an expert, which is then scored on the test part, or what it measured (metric, value, n).
    """

    name: str
    run: Callable[[Trial], Expert | Measured | tuple[str, float, int]]
    about: str  # in one line
    applies: Callable[[Task], bool] = _always  # whether a task can be measured so
    once: Callable[[Trial], object] | None = None  # what all draws of a task share: done before any is measured
    learns_others: bool = False  # whether it learns from the data of the other tasks, which a given pool does not hold
    default: bool = False  # whether `pitune study compare` measures it where no method is named
    demo: bool = False  # whether `pitune demo` measures it
    title: str = ""  # its name as readers see it, where that is another

    def measure(self, trial: Trial) -> Measured:
        """Return what it scores on the test examples."""
        result = self.run(trial)
        return trial.score(result) if isinstance(result, Expert) else Measured(*result)


BASELINES: Registry[Baseline] = Registry(
    "method",
    group="pitune.baselines",
    known={  # in the order of tables
        "zero-shot": "pitune.studies.baselines.alone:ZERO_SHOT",
        "linear probe": "pitune.studies.baselines.linear_probe:LINEAR_PROBE",
        SINGLE: "pitune.studies.baselines.alone:SINGLE_EXPERT",
        "single, every label": "pitune.studies.baselines.alone:EVERY_LABEL",
        "mean of two singles": "pitune.studies.baselines.alone:TWO_SINGLES",
        "full fine-tuning": "pitune.studies.baselines.full:FULL",
        "best neighbour": "pitune.studies.baselines.neighbours:BEST",
        "start from best neighbour": "pitune.studies.baselines.neighbours:FROM_BEST",
        "uniform mix": "pitune.studies.baselines.neighbours:UNIFORM",
        "scaled mix": "pitune.studies.baselines.neighbours:SCALED",
        "random neighbours": "pitune.studies.baselines.neighbours:RANDOM",
        "farthest neighbours": "pitune.studies.baselines.neighbours:FARTHEST",
        "black-box weights": "pitune.studies.baselines.black_box:BLACK_BOX",
        "PEFT linear": "pitune.studies.baselines.peft_mixes:LINEAR",
        "PEFT ties": "pitune.studies.baselines.peft_mixes:TIES",
        "start from a multitask source": "pitune.studies.baselines.neighbours:FROM_MULTITASK",
        PI: "pitune.studies.baselines.neighbours:PI_TUNING",
    },
)
