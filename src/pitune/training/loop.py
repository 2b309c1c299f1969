"""The training loop, one for single experts and for mixes."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm
from transformers import get_scheduler

from pitune.backbones import Batch, layers_recomputed, target_losses
from pitune.errors import InputError, printable
from pitune.experts import Attached, Tensors
from pitune.files import json_bytes, sha256_bytes, write_atomic
from pitune.processes import ALONE, Team, team
from pitune.tasks import Draw, Example, Task, loss_weights
from pitune.training.batching import epoch_batches
from pitune.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from pitune.training.dropout import dropping
from pitune.training.evaluate import evaluate_tensors
from pitune.training.memory import free_memory, is_out_of_memory
from pitune.training.precision import FORMATS, computing, scaler_of
from pitune.training.settings import TrainingSettings
from pitune.training.tracking import track

LOG = "log.jsonl"


class Learner(Protocol):
    """What trains: parameters with their share of the learning rate, and the expert that they amount to."""

    def parameters(self) -> list[tuple[Tensor, float]]:
        """Return the leaves to train, each with a factor on the learning rate."""

    def tensors(self) -> Tensors:
        """Return the expert's tensors as they are now, differentiable in the parameters."""

    def moved(self, tensors: Tensors) -> Tensor:
        """Return how far `tensors`, as they are now, are from where training began, squared: a scalar."""


@dataclass(frozen=True)
class Look:
    """How well validation examples are answered; `parts` says so for each of several tasks."""

    value: float
    loss: float
    losses: tuple[float, ...]
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Feed(Protocol):
    """What a run learns from and stops by: one task, or several."""

    @property
    def name(self) -> str:
        """Return what errors call it."""

    @property
    def size(self) -> int:
        """Return how many labels it learns from."""

    def batch(self, place: Attached, index: int, among: Team = ALONE) -> Batch:
        """Return a process's part of the index-th batch, a pure function of the index: a run can go on anywhere."""

    def look(self, place: Attached, tensors: Tensors) -> Look | None:
        """Return how well validation examples are answered; None where there are none."""

    def weights(self, ids: Sequence[str]) -> Tensor | None:
        """Return how much the losses (B,) of some examples count, 1 in the mean over all; None where all are alike."""

    def described(self) -> dict[str, Any]:
        """Return everything of it that decides how a run goes, as JSON holds it."""


@dataclass(frozen=True)
class Trained:
    """How a run went; the learner's parameters hold the values of the best evaluation.

    `stopped` is the step at which the loss was not finite, which ended the run before its time.
    """

    steps: int
    best_step: int
    validation: float
    validation_loss: float
    validation_losses: tuple[float, ...]
    history: tuple[dict[str, Any], ...]
    stopped: int | None = None


def train(
    place: Attached,
    learner: Learner,
    feed: Feed,
    settings: TrainingSettings,
    *,
    run: Path | None = None,
    title: str = "",
) -> Trained:
    """Train to the lowest calibrated validation loss; with a `run` folder, resume there.

    The loss, not the metric, decides: of eight validation examples it tells far more than how many are right. It is
    taken at the best temperature (`Evaluation.calibrated`), so that being too sure does not count.
    Without validation examples the last step counts. A `pull` c adds `c / N · ½ ‖φ − φ₀‖²` to the loss of N labels,
    φ₀ where the run began (ProLIP, arXiv 2410.05270, where that is the backbone): a run that learns from every label
    has nothing to stop by, and so stays near where the labels do not tell.
    What is read when, and every starting value, is given, so an interrupted run ends at the same bytes on CPU. Where
    several processes train (`Team`), each computes on its part of every batch, the first one's looks decide, and it
    alone writes.

    A batch that there is no memory for is taken in pieces, which is said on stderr; a step is of all of it as before.
    Values are looked at once their own loss and gradient are known to be finite; where these are not, the run ends with
    the best values until then, and says so on stderr. Raise `InputError` if there are none but those it began with.
    """
    together = team()
    leaves = learner.parameters()
    parameters = [parameter for parameter, _ in leaves]
    for parameter in parameters:
        parameter.requires_grad_(True)
    by_factor: dict[float, list[Tensor]] = {}
    for parameter, factor in leaves:
        by_factor.setdefault(factor, []).append(parameter)
    groups = [{"params": some, "lr": settings.learning_rate * factor} for factor, some in by_factor.items()]
    optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
    rate = _rate(settings, optimizer)
    key = _key(parameters, feed, settings)
    progress = (load_checkpoint(run, key, parameters, optimizer) if run else None) or Progress()
    scaler = scaler_of(settings.precision, place.backbone.device)
    if progress.scale:
        scaler.load_state_dict(progress.scale)
    together.agree((key, progress.step))
    every, pieces = max(1, settings.steps // settings.evaluations), 1
    since: list[float] = []  # training losses of the steps since the last look

    def look() -> bool:
        """Hold the values against the best until now; return whether their validation loss is finite."""
        with computing(settings.precision, place.backbone.device):
            own = feed.look(place, learner.tensors())
        found = together.of_first(own)
        value, loss = (found.value, found.loss) if found else (0.0, -float(progress.step))
        if not math.isfinite(loss):
            return False
        progress.since_best += 1
        if loss < progress.best_loss:
            progress.best_step, progress.best_value, progress.best_loss = progress.step, value, loss
            progress.best_losses = list(found.losses) if found else []
            progress.best = [parameter.detach().clone() for parameter in parameters]
            progress.since_best = 0
        line: dict[str, Any] = {"step": progress.step}
        if since:
            line["loss"] = sum(since) / len(since)
            since.clear()
        if found:
            line |= {"validation": value, "validation_loss": loss}
            line |= {"tasks": {name: dict(part) for name, part in found.parts.items()}} if found.parts else {}
        progress.history.append(line)
        track(run.name if run else feed.name, line)
        progress.done = progress.step >= settings.steps or progress.since_best >= settings.patience
        return True

    def keep() -> None:
        if run and together.first:
            progress.scale = scaler.state_dict()
            save_checkpoint(run, key, progress, parameters, optimizer)
            lines = [json.dumps(line, sort_keys=True) for line in progress.history]
            write_atomic(run / LOG, ("\n".join(lines) + "\n").encode())

    bar = tqdm(total=settings.steps, initial=progress.step, desc=title, leave=False, disable=None if title else True)
    with bar, _arranged(place, settings):
        while not progress.done:
            step = partial(_step, place, learner, feed, progress.step, settings, together, scaler)
            loss, pieces = _affordable(step, learner, feed.name, settings, pieces)
            scaler.unscale_(optimizer)
            norm = torch.nn.utils.clip_grad_norm_(parameters, settings.gradient_clip)
            if scaler.is_enabled() and scaler.get_scale() >= 1 and not math.isfinite(float(norm)):
                scaler.update()  # to half of it; the same step is taken again
                optimizer.zero_grad()
                continue
            finite = math.isfinite(float(loss) + float(norm))
            seen = progress.history[-1]["step"] if progress.history else -1
            due = progress.step % every == 0 or progress.step == settings.steps
            if not finite or (due and progress.step != seen and not look()):
                _stop(progress, feed.name)
                keep()
            elif due and progress.step != seen:
                keep()
            if progress.done:
                break
            for group, factor in zip(optimizer.param_groups, by_factor, strict=True):
                group["lr"] = settings.learning_rate * factor * rate(progress.step)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            progress.step += 1
            since.append(float(loss))
            bar.update()
            judged = {"validation": f"{progress.best_value:.3f}"} if progress.best_losses else {}
            bar.set_postfix(loss=f"{since[-1]:.3f}", **judged)
    for parameter, best in zip(parameters, progress.best, strict=True):
        parameter.data.copy_(best)
        parameter.requires_grad_(False)
        parameter.grad = None
    return Trained(
        progress.step,
        progress.best_step,
        progress.best_value,
        progress.best_loss,
        tuple(progress.best_losses),
        tuple(progress.history),
        progress.stopped,
    )


def _stop(progress: Progress, name: str) -> None:
    """End a run whose loss is not finite; raise `InputError` if nothing was learned before."""
    what = f"the loss on task {name!r} is not finite at step {progress.step}"
    if not progress.history or progress.history[-1]["step"] == 0:
        raise InputError(f"{what}, and nothing was learned before; lower the learning rate")
    progress.done, progress.stopped = True, progress.step
    kept = f"stopped there, and kept step {progress.best_step}, the best of those that were finite"
    if team().first:
        tqdm.write(printable(f"{what}: {kept}; lower the learning rate"), file=sys.stderr)


def _rate(settings: TrainingSettings, optimizer: torch.optim.Optimizer) -> Callable[[int], float]:
    """Return the share of the learning rate at each step, a pure function, so that resuming needs no state."""
    warmup = round(settings.warmup * settings.steps)
    schedule = get_scheduler(settings.schedule, optimizer, warmup, settings.steps)
    share: Callable[[int], float] = schedule.lr_lambdas[0]
    return lambda step: share(max(step, 1)) if warmup else share(step)  # the first step is not wasted on a rate of 0


def smoothed_losses(place: Attached, tensors: Tensors, batch: Batch, smoothing: float) -> Tensor:
    """Return per-example losses (B,), the target's share of the probability lowered by `smoothing`.

    What is taken from the target goes to the answers that an example may choose, in equal shares.
    """
    if smoothing == 0:
        return place.losses(tensors, batch)
    scores = place.scores(tensors, batch)
    if batch.allowed is None:
        return F.cross_entropy(scores, batch.target, label_smoothing=smoothing, reduction="none")
    others = scores.masked_fill(~batch.allowed, 0.0).sum(1) / batch.allowed.sum(1)
    return (1 - smoothing) * target_losses(scores, batch.target, batch.relevant) - smoothing * others


class OneTask:
    """A draw's examples by step, in an order that follows from its seed; a set that fits one batch is read once."""

    def __init__(self, draw: Draw, size: int) -> None:
        self.name = draw.task.name
        self._task, self._examples, self._validation = draw.task, draw.train, draw.validation
        self.size = len(draw.train)
        self._batch, self._seed = size, draw.seed
        parts = (draw.validation, draw.train) if draw.task.weights else ()
        self._weights = {name: w for part in parts for name, w in loss_weights(draw.task, part, draw.train).items()}
        self._whole: Batch | None = None
        self._epoch, self._order = -1, list[list[Example]]()

    def batch(self, place: Attached, index: int, among: Team = ALONE) -> Batch:
        """Return a step's examples: all, where they fit one batch, or the next of an epoch's own order."""
        if len(self._examples) <= self._batch:
            self._whole = self._whole or part_of(place, self._task, list(self._examples), among)
            return self._whole
        an_epoch = -(-len(self._examples) // self._batch)
        if index // an_epoch != self._epoch:
            self._epoch = index // an_epoch
            self._order = epoch_batches(self._examples, self._batch, self._seed, self._epoch)
        return part_of(place, self._task, self._order[index % an_epoch], among)

    def look(self, place: Attached, tensors: Tensors) -> Look | None:
        """Return the metric and the calibrated losses of the validation examples; None where there are none."""
        if not self._validation:
            return None
        found = evaluate_tensors(place, tensors, self._task, self._validation)
        losses = weighted(found.calibrated, self.weights(found.ids))
        return Look(found.value, float(losses.mean()), tuple(losses.tolist()))

    def weights(self, ids: Sequence[str]) -> Tensor | None:
        """Return the weights (B,) that the task gives its classes in the loss, by the ids of examples; None if none."""
        return torch.tensor([self._weights[name] for name in ids]) if self._weights else None

    def described(self) -> dict[str, Any]:
        """Return how the task asks, the ids of its examples and the seed, which make the key of a checkpoint."""
        task = self._task
        return {
            "task": asked(task),
            "examples": [[example.id for example in part] for part in (self._examples, self._validation)],
            "seed": self._seed,
            **({"weights": self._weights} if self._weights else {}),
        }


def asked(task: Task) -> list[str]:
    """Return what of a task, besides its examples, decides how a run goes."""
    return [task.name, task.data_hash, task.template, *task.answer_templates]


def weighted(losses: Tensor, weights: Tensor | None) -> Tensor:
    """Return losses (B,) times their weights (B,), if there are any."""
    return losses if weights is None else losses * weights.to(losses.device)


def part_of(place: Attached, task: Task, examples: Sequence[Example], among: Team) -> Batch:
    """Return a process's part of a batch of examples, as the backbone reads it."""
    own, share = among.part(examples)
    return replace(place.prepare(own, task), share=share)


def try_step(place: Attached, learner: Learner, feed: Feed, settings: TrainingSettings) -> None:
    """Compute a first step of a run, as it would be taken, and take none."""
    step = partial(
        _step, place, learner, feed, 0, settings, ALONE, scaler_of(settings.precision, place.backbone.device)
    )
    with _arranged(place, settings):
        _affordable(step, learner, feed.name, settings, 1)


@contextmanager
def _arranged(place: Attached, settings: TrainingSettings) -> Iterator[None]:
    """Have the backbone as the steps of a run compute on it."""
    again = layers_recomputed(place.backbone) if settings.gradient_checkpointing else nullcontext()
    with again, place.casting(FORMATS.get(settings.precision)):
        yield


def _affordable(
    step: Callable[[int], Tensor], learner: Learner, name: str, settings: TrainingSettings, pieces: int
) -> tuple[Tensor, int]:
    """Return a step's loss and into how many pieces, so many or more, each of its batches had to be divided."""
    while True:
        try:
            return step(pieces), pieces
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        for parameter, _ in learner.parameters():
            parameter.grad = None
        free_memory()  # here, where the error no longer keeps what was computed
        if pieces >= settings.batch_size:
            raise InputError(
                f"out of memory on task {name!r} with one example at a time; choose a smaller backbone or "
                "--dtype bfloat16, or shorten the texts"
            )
        pieces *= 2
        what = f"a batch of {settings.batch_size} is taken in {pieces} pieces; a step still learns from all of it"
        tqdm.write(printable(f"out of memory on task {name!r}: {what}"), file=sys.stderr)


def _step(
    place: Attached,
    learner: Learner,
    feed: Feed,
    step: int,
    settings: TrainingSettings,
    among: Team,
    scaler: torch.amp.GradScaler,
    pieces: int,
) -> Tensor:
    """Leave the gradients of a step's scaled loss in the learner's parameters, and return the loss: a scalar."""
    total = torch.zeros(())
    for part in range(settings.accumulation):
        batch = feed.batch(place, step * settings.accumulation + part, among)
        size = -(-len(batch) // pieces)
        for piece in (batch.rows(slice(i, i + size)) for i in range(0, len(batch), size)) if pieces > 1 else (batch,):
            tensors, share = learner.tensors(), len(piece) / len(batch) if pieces > 1 else 1.0
            with dropping(place, settings.dropout, feed.name, step, part, among.index, piece.ids[:1]):
                with computing(settings.precision, place.backbone.device):
                    losses = smoothed_losses(place, tensors, piece, settings.label_smoothing)
                loss = weighted(losses, feed.weights(piece.ids)).mean() * (batch.share * share)
                if settings.pull:
                    loss = loss + settings.pull / feed.size / among.size * 0.5 * learner.moved(tensors) * share
                loss = loss / settings.accumulation
                scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            total = total + loss.detach().cpu()
    gradients = [parameter.grad for parameter, _ in learner.parameters() if parameter.grad is not None]
    among.add_up([*gradients, total])
    return total


def _key(parameters: Sequence[Tensor], feed: Feed, settings: TrainingSettings) -> str:
    """Return a hash of everything that decides how a run goes."""
    start = [sha256_bytes(parameter.detach().cpu().numpy().tobytes()) for parameter in parameters]
    return sha256_bytes(json_bytes({"start": start, "settings": settings.model_dump(), **feed.described()}))
