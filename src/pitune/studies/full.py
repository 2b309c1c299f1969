"""Full fine-tuning, the baseline that light experts are measured against: every weight of the module trains."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pitune.backbones import Backbone
from pitune.experts import Attached, Attachment
from pitune.studies.baselines import Measured
from pitune.tasks import Example, Task
from pitune.training import Data, SingleLearner, TrainingSettings, evaluate_tensors, train

_RATE = 1e-4  # of the usual size for whole transformers; an expert's would undo the pretraining


def full_fine_tuning(
    backbone: Backbone,
    task: Task,
    data: Data,
    test: Sequence[Example],
    settings: TrainingSettings,
    run: Path | None = None,
) -> Measured:
    """Train all weights of `backbone.module` for as many steps as an expert, and score the test examples.

    The backbone itself stays as it is: copies of its weights are put in for every call. What a stopped run goes on
    from is deleted in the end: it holds four numbers for each weight.
    """
    paths = {name: name for name, value in backbone.module.named_parameters() if value.is_floating_point()}
    place = Attached(backbone, Attachment(paths, lambda: None))
    learner = SingleLearner(
        {name: value.detach().clone() for name, value in backbone.module.named_parameters() if name in paths}
    )
    chosen = settings.model_copy(update={"learning_rate": _RATE})
    train(place, learner, task, data.train, data.validation, chosen, data.seed, run)
    found = evaluate_tensors(place, learner.tensors(), task, test)
    if run:
        shutil.rmtree(run)
    return found.metric, found.value, len(found.ids)
