"""Full fine-tuning, the baseline that light experts are measured against: every weight of the module trains."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pitune.backbones import Backbone
from pitune.experts import Attached, Attachment
from pitune.studies.baselines.baseline import Baseline
from pitune.studies.rows import Measured
from pitune.studies.trial import Trial
from pitune.tasks import Draw, Example
from pitune.training import OneTask, SingleLearner, TrainingSettings, evaluate_tensors, train

_RATE = 1e-4  # of the usual size for whole transformers; an expert's would undo the pretraining


def full_fine_tuning(
    backbone: Backbone, draw: Draw, test: Sequence[Example], *, settings: TrainingSettings, run: Path | None = None
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
    train(place, learner, OneTask(draw, chosen.batch_size), chosen, run=run)
    evaluation = evaluate_tensors(place, learner.tensors(), draw.task, test)
    if run:
        shutil.rmtree(run)
    return evaluation.metric, evaluation.value, len(evaluation.ids)


def _measure(trial: Trial) -> Measured:
    settings, run = trial.plan.training(trial.draw), trial.folder / "full"
    return full_fine_tuning(trial.backbone, trial.draw, trial.test, settings=settings, run=run)


FULL = Baseline("full fine-tuning", _measure, "every weight of the backbone, trained on the labels", default=True)
