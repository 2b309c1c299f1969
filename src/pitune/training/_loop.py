"""The training loop, one for single experts and for mixes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm
from transformers import get_scheduler

from pitune._files import json_bytes, sha256_bytes, write_atomic
from pitune.backbones import Batch
from pitune.errors import InputError
from pitune.experts import Attached, Tensors
from pitune.tasks import Example, Task
from pitune.training._batching import epoch_batches
from pitune.training._checkpoint import Progress, load_checkpoint, save_checkpoint
from pitune.training._evaluate import evaluate_tensors
from pitune.training._settings import TrainingSettings

LOG = "log.jsonl"


class Learner(Protocol):
    """What trains: parameters with their share of the learning rate, and the expert that they amount to."""

    def parameters(self) -> list[tuple[Tensor, float]]:
        """Return the leaves to train, each with a factor on the learning rate."""

    def tensors(self) -> Tensors:
        """Return the expert's tensors as they are now, differentiable in the parameters."""

    def penalty(self) -> Tensor:
        """Return what is added to the loss, zero for most."""


@dataclass(frozen=True)
class Trained:
    """How a run went; the learner's parameters hold the values of the best evaluation."""

    steps: int
    best_step: int
    validation: float
    validation_loss: float
    validation_losses: tuple[float, ...]
    history: tuple[dict[str, float], ...]


def train(
    place: Attached,
    learner: Learner,
    task: Task,
    train_examples: Sequence[Example],
    validation_examples: Sequence[Example],
    settings: TrainingSettings,
    seed: int = 0,
    run: Path | None = None,
    title: str = "",
) -> Trained:
    """Train to the lowest validation loss; with a `run` folder, resume there.

    The loss, not the metric, decides: of eight validation examples it tells far more than how many are right.
    Without validation examples the last step counts. What is read when, and every starting value, follows
    from `seed`, so an interrupted run ends at the same bytes on CPU. Raise `InputError` if the loss is not
    finite.
    """
    leaves = learner.parameters()
    parameters = [parameter for parameter, _ in leaves]
    for parameter in parameters:
        parameter.requires_grad_(True)
    groups = [{"params": [parameter], "lr": settings.learning_rate * factor} for parameter, factor in leaves]
    optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    rate = _rate(settings, optimizer)
    key = _key(parameters, task, train_examples, validation_examples, settings, seed)
    progress = (load_checkpoint(run, key, parameters, optimizer) if run else None) or Progress()
    every = max(1, settings.steps // settings.evaluations)
    batches = _Batches(place, task, train_examples, settings, seed)

    def look() -> None:
        found = evaluate_tensors(place, learner.tensors(), task, validation_examples) if validation_examples else None
        value, loss = (found.value, found.loss) if found else (0.0, -float(progress.step))
        progress.since_best += 1
        if loss < progress.best_loss:
            progress.best_step, progress.best_value, progress.best_loss = progress.step, value, loss
            progress.best_losses = found.losses.tolist() if found else []
            progress.best = [parameter.detach().clone() for parameter in parameters]
            progress.since_best = 0
        progress.history.append({"step": progress.step, "validation": value, "validation_loss": loss})
        progress.done = progress.step >= settings.steps or progress.since_best >= settings.patience

    with tqdm(
        total=settings.steps, initial=progress.step, desc=title, leave=False, disable=None if title else True
    ) as bar:
        while not progress.done:
            if progress.step == 0 and not progress.history:
                look()
            for group, (_, factor) in zip(optimizer.param_groups, leaves, strict=True):
                group["lr"] = settings.learning_rate * factor * rate(progress.step)
            loss = _step(place, learner, batches, progress.step, settings)
            if not torch.isfinite(loss):
                raise InputError(
                    f"the loss on task {task.name!r} is not finite at step {progress.step}; lower the learning rate"
                )
            torch.nn.utils.clip_grad_norm_(parameters, settings.gradient_clip)
            optimizer.step()
            optimizer.zero_grad()
            progress.step += 1
            bar.update()
            bar.set_postfix(loss=f"{float(loss):.3f}", validation=f"{progress.best_value:.3f}")
            if progress.step % every == 0 or progress.step == settings.steps:
                look()
                if run:
                    save_checkpoint(run, key, progress, parameters, optimizer)
                    lines = [json.dumps(line, sort_keys=True) for line in progress.history]
                    write_atomic(run / LOG, ("\n".join(lines) + "\n").encode())
    for parameter, best in zip(parameters, progress.best, strict=True):
        parameter.data.copy_(best)
        parameter.requires_grad_(False)
    return Trained(
        progress.step,
        progress.best_step,
        progress.best_value,
        progress.best_loss,
        tuple(progress.best_losses),
        tuple(progress.history),
    )


def _rate(settings: TrainingSettings, optimizer: torch.optim.Optimizer) -> Callable[[int], float]:
    """Return the share of the learning rate at each step, a pure function, so that resuming needs no state."""
    warmup = round(settings.warmup * settings.steps)
    schedule = get_scheduler(settings.schedule, optimizer, warmup, settings.steps)
    share: Callable[[int], float] = schedule.lr_lambdas[0]
    return lambda step: share(max(step, 1)) if warmup else share(step)  # the first step is not wasted on a rate of 0


def smoothed_losses(place: Attached, tensors: Tensors, batch: Batch, smoothing: float) -> Tensor:
    """Return per-example losses (B,), the target's share of the probability lowered by `smoothing`."""
    if smoothing == 0:
        return place.losses(tensors, batch)
    scores = place.scores(tensors, batch)
    return F.cross_entropy(scores, batch.target, label_smoothing=smoothing, reduction="none")


class _Batches:
    """Batches by step; a set that fits one batch is prepared once."""

    def __init__(
        self, place: Attached, task: Task, examples: Sequence[Example], settings: TrainingSettings, seed: int
    ) -> None:
        self._prepare: Callable[[list[Example]], Batch] = lambda some: place.backbone.prepare(some, task)
        self._examples, self._size, self._seed = examples, settings.batch_size, seed
        self._whole = self._prepare(list(examples)) if len(examples) <= settings.batch_size else None
        self._epoch, self._order = -1, list[list[Example]]()

    def __getitem__(self, index: int) -> Batch:
        if self._whole is not None:
            return self._whole
        an_epoch = -(-len(self._examples) // self._size)
        if index // an_epoch != self._epoch:
            self._epoch = index // an_epoch
            self._order = epoch_batches(self._examples, self._size, self._seed, self._epoch)
        return self._prepare(self._order[index % an_epoch])


def _step(place: Attached, learner: Learner, batches: _Batches, step: int, settings: TrainingSettings) -> Tensor:
    total = torch.zeros(())
    for part in range(settings.accumulation):
        batch = batches[step * settings.accumulation + part]
        losses = smoothed_losses(place, learner.tensors(), batch, settings.label_smoothing)
        loss = (losses.mean() + learner.penalty()) / settings.accumulation
        loss.backward()  # type: ignore[no-untyped-call]
        total = total + loss.detach().cpu()
    return total


def _key(
    parameters: Sequence[Tensor],
    task: Task,
    train_examples: Sequence[Example],
    validation_examples: Sequence[Example],
    settings: TrainingSettings,
    seed: int,
) -> str:
    """Return a hash of everything that decides how a run goes."""
    described = {
        "start": [sha256_bytes(parameter.detach().cpu().numpy().tobytes()) for parameter in parameters],
        "task": [task.name, task.data_hash, task.template, task.answer_template],
        "examples": [[example.id for example in part] for part in (train_examples, validation_examples)],
        "settings": settings.model_dump(),
        "seed": seed,
    }
    return sha256_bytes(json_bytes(described))
