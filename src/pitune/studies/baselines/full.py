"""Full fine-tuning, the baseline that light experts are measured against: every weight of the module trains."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pitune.backbones import Backbone
from pitune.experts import Attached, Attachment
from pitune.studies.baselines.baseline import Baseline
from pitune.studies.rows import Measured
from pitune.studies.study import as_measured
from pitune.studies.trial import Trial
from pitune.tasks import Draw, Example
from pitune.training import OneTask, SingleLearner, Trained, TrainingSettings, evaluate_expert, evaluate_tensors, train

_RATES = (3e-5, 1e-4, 3e-4)  # of the usual size for whole transformers; an expert's would undo the pretraining


def full_fine_tuning(
    backbone: Backbone, draw: Draw, test: Sequence[Example], *, settings: TrainingSettings, run: Path | None = None
) -> Measured:
    """Train all weights of `backbone.module` on every label, and score the test examples.

    The rate is that of the lowest validation loss in runs on the labels to train on, and the length that run's best
    step, longer as there are more labels; where that is none, the backbone answers untouched. The backbone itself
    stays as it is: copies of its weights are put in for every run. What a stopped run goes on from is deleted in the
    end: it holds four numbers for each weight.
    """
    names = [name for name, value in backbone.module.named_parameters() if value.is_floating_point()]
    place = Attached(backbone, Attachment({name: name for name in names}, lambda: None))

    def fitted(part: Draw, **changes: float) -> tuple[SingleLearner, Trained]:
        learner = SingleLearner({name: backbone.module.get_parameter(name).detach().clone() for name in names})
        chosen = settings.model_copy(update=changes)
        kept = run / "-".join(f"{value:g}" for value in changes.values()) if run else None
        return learner, train(place, learner, OneTask(part, chosen.batch_size), chosen, run=kept)

    tried = {rate: fitted(draw, learning_rate=rate)[1] for rate in _RATES}
    rate = min(tried, key=lambda rate: tried[rate].validation_loss)
    steps = round(tried[rate].best_step * len(draw.labels) / len(draw.train))
    if steps:
        whole = fitted(draw.whole, learning_rate=rate, steps=steps)[0].tensors()
        evaluation = evaluate_tensors(place, whole, draw.task, test)
    else:
        evaluation = evaluate_expert(backbone, draw.task, None, test)
    if run:
        shutil.rmtree(run)
    return as_measured(draw.task, test, evaluation, not steps)


def _measure(trial: Trial) -> Measured:
    settings, run = trial.plan.training(trial.draw), trial.folder / "full"
    return full_fine_tuning(trial.backbone, trial.draw, trial.test, settings=settings, run=run)


FULL = Baseline("full fine-tuning", _measure, "every weight of the backbone, trained on the labels", default=True)
