"""The experts that studies start from: one of each task in a pool, and those of several tasks at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pitune import defaults
from pitune.backbones import Backbone
from pitune.experts import KINDS, Card, Expert, ExpertPool, attached, make_settings
from pitune.files import sha256_bytes
from pitune.prediction import embed
from pitune.studies.plans import ComparePlan, PromptPlan, TransferPlan
from pitune.studies.study import POOL, Study, open_backbone, open_task
from pitune.tasks import Draw, Task, few_shot, stem_of
from pitune.training import (
    TrainingSettings,
    fit_expert,
    fit_multitask,
    multitask_name,
    target_training,
    untrained,
)

_VALIDATION = 64  # of a source of several tasks, to stop by
WAYS: Mapping[str, tuple[str, Mapping[str, Any]]] = {  # kinds of expert with settings that studies compare
    "text+visual": ("unified_prompt", {"folded": True}),
    "unified_prompt, each by itself": ("unified_prompt", {"attends": False}),
}


def train_pool(
    study: Study, plan: ComparePlan, tasks: Sequence[str], folder: str = POOL, unrelated: bool = False
) -> None:
    """Train what the pool lacks of the tasks' data-rich experts; `unrelated` ones share no starting values."""
    pool = ExpertPool(study.out / folder)

    def is_there(task: str) -> bool:
        name = Draw(open_task(task), ()).expert_name("lora")
        return name in pool and _trained_by(pool.get(name).card) == plan.source_training

    lacking = [task for task in tasks if not is_there(task)]
    runs = study.out / "runs" / ("unrelated" if unrelated else "")
    title = "sources of unrelated starts" if unrelated else "sources"
    study.each(partial(_train, plan, pool, runs, unrelated), lacking, title)


def _trained_by(card: Card) -> TrainingSettings:
    """Return how an expert was trained; what its card does not tell was as it is by default."""
    told = {name: value for name, value in card.hyperparameters.items() if name in TrainingSettings.model_fields}
    return TrainingSettings.model_validate(told)


def _train(plan: ComparePlan, pool: ExpertPool, runs: Path, unrelated: bool, name: str) -> None:
    backbone, draw = open_backbone(plan), source_draw(open_task(name), None, plan.validation)
    start, run = _start_of_its_own(backbone, draw.task) if unrelated else None, runs / draw.expert_name("lora")
    expert, _ = fit_expert(backbone, draw, settings=plan.source_training, start=start, run=run)
    pool.add(embed(backbone, draw, expert), replace=True)


def _start_of_its_own(backbone: Backbone, task: Task) -> Expert:
    """Return a LoRA before training whose values no other task's begins with."""
    kind = KINDS.get("lora")
    card = Card(name="unrelated-start", backbone=backbone.fingerprint, base_model=backbone.name)
    seed = int(sha256_bytes(task.name.encode()), 16)
    return untrained(backbone, kind, make_settings(kind, backbone), card, seed=seed)


def source_draw(task: Task, shots: int | None, validation: int) -> Draw:
    """Return what a source learns from, always the same draw, with at most so many examples to stop by."""
    draw = few_shot(task, shots, 0)
    return replace(draw, validation=draw.validation[:validation])


def source_expert(
    plan: ComparePlan | PromptPlan | TransferPlan,
    tasks: Sequence[str],
    out: Path,
    *,
    method: str = "lora",
    shots: int | None = None,
    **more: Any,
) -> Expert:
    """Return the expert of some tasks together, from the study's folder or by training it there."""
    draws = [source_draw(open_task(task), shots, _VALIDATION) for task in tasks]
    pool, name = ExpertPool(out / "sources"), multitask_name(draws, stem_of(method), 0)
    if name not in pool:
        settings, run, kind = source_settings(plan, method), out / "runs" / name, kind_of(method)
        expert, _ = fit_multitask(open_backbone(plan), draws, method=kind, settings=settings, run=run, **more)
        pool.add(replace(expert, card=expert.card.model_copy(update={"name": name})), replace=True)
    return pool.get(name)


def source_settings(plan: ComparePlan | PromptPlan | TransferPlan, method: str) -> TrainingSettings:
    """Return how an expert of several tasks is trained: as the plan says, the rest as suits its kind."""
    if isinstance(plan, ComparePlan):
        return plan.source_training
    kind = KINDS.get(kind_of(method))
    usual = {"steps": 400, "batch_size": 256, "evaluations": 8} if kind.at_answers else {"steps": 120, "evaluations": 4}
    return TrainingSettings(**{"learning_rate": kind.learning_rate, **usual, **plan.source_training})


def target_settings(plan: PromptPlan | TransferPlan, draw: Draw, method: str) -> TrainingSettings:
    """Return how an expert of a target is trained: as the plan says, the rest as suits its kind and labels."""
    usual = target_training(len(draw.labels), KINDS.get(kind_of(method)), stopped=False)
    return TrainingSettings(**{**usual.model_dump(), **plan.training})


def kind_of(method: str) -> str:
    """Return the kind of expert that a study's method trains."""
    return WAYS[method][0] if method in WAYS else method


def vectors_of(plan: PromptPlan | TransferPlan, method: str) -> dict[str, Any]:
    """Return the settings of a plan's prompts: of their way, how many vectors they are, and what they join.

    That is the bare name, as CoOp's do, but for the default backbone: its studies were measured with the template.
    """
    kind, own = WAYS.get(method, (method, {}))
    fields = KINDS.get(kind).settings.model_fields
    around = "text" if plan.backbone == defaults.BACKBONE else "name"
    wanted = {"length": plan.length, "around": around}
    return {**own, **{name: value for name, value in wanted.items() if name in fields and value is not None}}


def joins_names(plan: PromptPlan | TransferPlan, methods: Sequence[str]) -> dict[str, str]:
    """Return what rows have in common beside the plan's fields where prompts join bare names, which once they did not.

    A study of before is then refused rather than gone on with in another way.
    """
    return {"around": "name"} if any(vectors_of(plan, one).get("around") == "name" for one in methods) else {}


def check_kind(backbone: Backbone, method: str) -> None:
    """Raise `InputError` before anything is trained if there is no such kind, or the backbone cannot carry it."""
    kind = KINDS.get(kind_of(method))
    with attached(backbone, kind, make_settings(kind, backbone)):
        pass
