"""The whole loop in plain functions: train, embed, predict, mix, fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pitune import prediction, training
from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import Expert, ExpertPool
from pitune.interpolation import TuneResult, TuneSettings, tune_nearest
from pitune.prediction import Embedding, TaskGraph, build_graph, embed, embed_tasks, embedding
from pitune.tasks import Input, Split, Task, as_example, asked_task, few_shot
from pitune.training import Answer, Scope, TrainingSettings, evaluate_expert, fit_by_folds, templates_of


def fit(
    backbone: Backbone,
    task: Task,
    *,
    method: str = "lora",
    shots: int | None = None,
    at_most: bool = False,
    seed: int = 0,
    folds: int | None = None,
    settings: TrainingSettings | None = None,
    run: Path | None = None,
    progress: bool = False,
    start: Expert | None = None,
    **config: Any,
) -> Expert:
    """Train an expert for a task and embed the task by its Fisher information.

    `shots` examples per class, or all; with `at_most` rare classes give what they have. Few labels all train, and
    `folds` of them judge; of more than a thousand, or with 0 folds, the validation part stops training and judges.
    Training is as long as the labels ask for unless `settings` say so. `config` holds the method's own settings, such
    as `r=8`.
    With a `run` folder, an interrupted run goes on where it stopped and ends at the same bytes (on CPU). From the
    common starting values, or from the expert `start`, such as one of `fit_multitask` (MVLPT, stage 2); its kind must
    be `method`, and all its tensors must fit.
    """
    draw = few_shot(task, shots, seed, at_most=at_most)
    expert, _ = fit_by_folds(
        backbone,
        draw,
        folds=folds,
        method=method,
        settings=settings,
        start=start,
        run=run,
        progress=progress,
        **config,
    )
    return embed(backbone, draw, expert)


def fit_multitask(
    backbone: Backbone,
    tasks: Sequence[Task],
    *,
    method: str = "lora",
    shots: int | None = None,
    seed: int = 0,
    mixing: str = "balanced",
    scope: Scope = "task",
    settings: TrainingSettings | None = None,
    run: Path | None = None,
    progress: bool = False,
    start: Expert | None = None,
    **config: Any,
) -> Expert:
    """Train one expert over several tasks and embed it by their mean (MVLPT, stage 1; with `start`, stage 2 (b)).

    `mixing` says how often each task is drawn: `balanced`, `proportional`, `temperature=2` or `capped=256`.
    With the scope `task` an example is scored over its own task's answers, with `union` over those of all. The
    best step is that of the lowest validation loss, averaged over tasks. Raise `InputError` naming the task
    that cannot be part of a mixture, before anything is trained.
    """
    draws = [few_shot(task, shots, seed) for task in tasks]
    expert, _ = training.fit_multitask(
        backbone,
        draws,
        method=method,
        mixing=mixing,
        scope=scope,
        seed=seed,
        settings=settings,
        start=start,
        run=run,
        progress=progress,
        **config,
    )
    return embed_tasks(backbone, draws, expert)


def task_graph(pool: ExpertPool, by: Embedding = "probe") -> TaskGraph:
    """Return how alike the tasks of a pool are, every two of them."""
    return build_graph({expert.name: embedding(expert, by) for expert in pool})


def neighbours(
    backbone: Backbone,
    task: Task,
    pool: ExpertPool,
    *,
    k: int = 4,
    shots: int | None = None,
    at_most: bool = False,
    seed: int = 0,
    by: str = "probe",
) -> list[tuple[str, float]]:
    """Return the k experts that serve `task` best by a registered score, with their scores, best first.

    By `probe` they are those whose tasks are most like it, and it needs no expert of the target; by `trial` those
    that answer its labels best as they are. Experts of the same task are passed over.
    """
    return prediction.neighbours(backbone, few_shot(task, shots, seed, at_most=at_most), pool, k=k, by=by).pairs


def tune(
    backbone: Backbone,
    task: Task,
    pool: ExpertPool,
    *,
    k: int = 4,
    shots: int | None = None,
    at_most: bool = False,
    seed: int = 0,
    by: str = "probe",
    method: str = "lora",
    settings: TuneSettings | None = None,
    run: Path | None = None,
    progress: bool = False,
) -> TuneResult:
    """π-Tuning whole: find the k nearest tasks, train their experts' mix with the target's own, fold to one.

    `by` names the score that finds them (`neighbours`). Of the k, `settings.select` leaves out those that do not
    serve the few labels.
    """
    near = prediction.neighbours(
        backbone, few_shot(task, shots, seed, at_most=at_most), pool, k=k, by=by, method=method
    )
    return tune_nearest(near, settings=settings, run=run, progress=progress)


def evaluate(backbone: Backbone, task: Task, expert: Expert | None = None, split: Split = "test") -> dict[str, Any]:
    """Return `{"metric", "value", "n", "templates"}` of an expert, or of the backbone alone, on one part of a task.

    `templates` are what answers were matched as, none where the backbone matches none.
    """
    seen = evaluate_expert(backbone, task, expert, task.examples(split))
    templates = list(templates_of(backbone, task, expert))
    return {"metric": seen.metric, "value": seen.value, "n": len(seen.ids), "templates": templates}


def predict(
    backbone: Backbone,
    task: Task | None,
    expert: Expert | None,
    inputs: Sequence[Input],
    *,
    progress: bool = False,
) -> list[Answer]:
    """Return an answer to each input with its probability, by an expert or by the backbone alone.

    An input is a text, an image (a path, or its encoded bytes), a pair of image and text, or an `Example`, whose
    target is not read. The task says how to ask and which answers there are; None is what the expert's card keeps of
    its own. Raise `InputError` if it keeps none, or an input is of another kind than the task's own examples.
    """
    kept = expert and asked_task(expert.card.task, expert.card.hyperparameters.get("asked"))
    if task is None:
        if not kept:
            raise InputError(f"{expert.name if expert else 'no expert'}: keeps no task of its own; expected a task")
        task = kept[0]
    reads = kept[1] if kept else None
    examples = [as_example(task, number, one, reads) for number, one in enumerate(inputs)]
    return training.answer(backbone, task, expert, examples, progress=progress)
