"""The pools that studies draw on: one data-rich expert a task."""

from __future__ import annotations

from pathlib import Path

from pitune.backbones import Backbone
from pitune.experts import Card, Expert, ExpertPool, get_method, make_config
from pitune.files import sha256_bytes
from pitune.prediction import embed
from pitune.tasks import Task, few_shot
from pitune.training import Data, TrainingSettings, expert_name, fit_expert, untrained


def is_trained(task: Task, pool: ExpertPool, settings: TrainingSettings) -> bool:
    """Whether the pool has a task's expert, trained in this way."""
    name = expert_name(task, "lora", None, 0)
    return name in pool and pool.get(name).card.hyperparameters.items() >= settings.model_dump().items()


def train_source(
    backbone: Backbone,
    task: Task,
    pool: ExpertPool,
    settings: TrainingSettings,
    validation: int,
    runs: Path,
    start: Expert | None = None,
) -> None:
    """Train a task's expert on all its labels and add it to the pool; `validation` examples decide when to stop."""
    drawn = few_shot(task, None, 0)
    data = Data(drawn.train, drawn.validation[:validation])
    name = expert_name(task, "lora", None, 0)
    expert, _ = fit_expert(backbone, task, data, "lora", settings, start, runs / name)
    pool.add(embed(backbone, task, expert, data.train), replace=True)


def unrelated_start(backbone: Backbone, task: Task) -> Expert:
    """Return a LoRA before training whose values no other task's begins with."""
    method = get_method("lora")
    card = Card(name="unrelated-start", backbone=backbone.fingerprint, base_model=backbone.name)
    seed = int(sha256_bytes(task.name.encode()), 16)
    return untrained(backbone, method, make_config(method, backbone), card, seed)
