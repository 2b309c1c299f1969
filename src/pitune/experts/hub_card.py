"""The card of an expert that is shared: what people look for before they trust a stranger's."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from pitune.errors import printable
from pitune.experts.card import Parent, hub_id
from pitune.experts.expert import Expert
from pitune.tasks import Task, reads_of

_LICENCES = r"apache-2\.0|mit|cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-[234]\.[05]|bsd-[23]-clause|gpl-[23]\.0|odc-by|pddl"
_LABELS, _LONGEST = 30, 160  # that are listed, letters of an example
_TRAINED = ("steps", "best_step", "batch_size", "accumulation", "learning_rate", "pull", "folds", "mixing", "scope")
_KINDS = {
    frozenset({"image"}): ("image-classification", "image-to-text"),
    frozenset({"text"}): ("text-classification", "text-generation"),
    frozenset({"image", "text"}): ("visual-question-answering", "visual-question-answering"),
}


@dataclass(frozen=True)
class Sharing:
    """What a card tells that the expert does not: where it is, its task, a licence, what it was trained on.

    Without a task it lists the labels that the expert keeps; the licence is that of the task's data unless given.
    """

    where: str
    task: Task | None = None
    licence: str = ""
    trained_on: str = ""
    examples: bool = True


def hub_card(expert: Expert, sharing: Sharing) -> bytes:
    """Return the README of an expert that is shared: what its own says, below the metadata that the hub reads.

    These are base model, licence, and the metric as a model index. Then come labels with an example each, the experts
    it is mixed of, how it was trained, and how to get it.
    """
    card, own = expert.card, expert.readme().decode().split("---\n", 2)[2].strip()
    parts = [f"---\n{_metadata(expert, sharing).to_yaml()}\n---\n{own}", *_labels(expert, sharing)]
    if card.parents:
        near = card.hyperparameters.get("neighbours")
        rows = [_parent(one, near if isinstance(near, dict) else {}) for one in card.parents]
        heads = ("expert", "mean weight", "likeness of the tasks", "sha256 of its weights")
        parts.append("## What it is mixed of\n\n" + _table(heads, rows))
    parts.append("## How it was trained\n\n" + _table(("", ""), _training(expert, sharing)))
    parts.append("## How to get it\n\n" + _getting(expert, sharing.where))
    return ("\n\n".join(parts) + "\n").encode()


def _metadata(expert: Expert, sharing: Sharing) -> ModelCardData:
    card, task = expert.card, sharing.task
    results = None
    if card.validation is not None:
        reads = (reads_of(task) if task else None) or frozenset()
        kinds = _KINDS.get(reads, ("other", "other"))
        results = [
            EvalResult(
                task_type=kinds[0 if task and task.answers else 1],
                dataset_type=printable(card.task),
                dataset_name=printable(card.task),
                dataset_split="validation",
                metric_type=card.metric,
                metric_value=card.validation,
            )
        ]
    licence = sharing.licence or (task.licence if task else "")
    known = re.fullmatch(_LICENCES, licence.lower())
    return ModelCardData(
        base_model=hub_id(card.base_model)[0],
        library_name="pitune" if expert.kind.peft(expert.settings) is None else "peft",
        tags=["pitune", expert.method],
        model_name=printable(expert.name),
        eval_results=results,
        license=licence.lower() if known else "other",
        license_name=None if known else printable(licence or "unknown"),
    )


def _training(expert: Expert, sharing: Sharing) -> Iterator[tuple[str, object]]:
    task, told = sharing.task, expert.card.hyperparameters
    if task and task.provenance:
        yield "where the data is from", _plain(task.provenance)
    yield "licence", _plain(sharing.licence or (task.licence if task else "unknown"))
    yield "seed", expert.card.seed
    yield from ((name, _plain(str(told[name]))) for name in _TRAINED if name in told)
    if sharing.trained_on:
        yield "trained on", _plain(sharing.trained_on)


def _labels(expert: Expert, sharing: Sharing) -> Iterator[str]:
    """Yield the section of labels, each with an example's text where there is one to show."""
    task = sharing.task
    asked = expert.card.hyperparameters.get("asked")
    kept = asked.get("answers") if isinstance(asked, dict) else None
    answers = [str(one) for one in (task.answers if task else kept) or ()]
    if not answers:
        return
    shown: dict[str, str] = {}
    for example in (task.splits.get("train") or ()) if task and sharing.examples else ():
        if example.text is not None:
            shown.setdefault(example.target, example.text)
    rows = [(_code(one), _code(shown[one][:_LONGEST]) if one in shown else "") for one in answers[:_LABELS]]
    more = f"\n\nand {len(answers) - _LABELS} more" if len(answers) > _LABELS else ""
    yield "## Labels\n\n" + _table(("label", "an example"), rows) + more


def _parent(parent: Parent, near: dict[str, Any]) -> tuple[object, ...]:
    likeness = near.get(parent.name)
    weight = mean(parent.weights.values()) if parent.weights else 0.0
    return _code(parent.name), weight, likeness if isinstance(likeness, float) else "", _code(parent.digest[:16])


def _getting(expert: Expert, where: str) -> str:
    name, base = expert.name, expert.card.base_model
    own = f"""```bash
pitune pool pull {_word(where)} --pool pool
pitune predict {name} INPUT --pool pool --backbone {_word(base)}
```"""
    if expert.kind.peft(expert.settings) is None:
        return own
    return f"{own}\n\nIn PEFT, with `model` the base model: `PeftModel.from_pretrained(model, {where!r})`."


def _word(text: str) -> str:
    """Return a stranger's word as a shell reads it, on a line that no fence ends."""
    return shlex.quote(printable(text).replace("`", "'"))


def _table(heads: tuple[str, ...], rows: Any) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join("| " + " | ".join(_cell(one) for one in row) + " |" for row in lines)


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(text: str) -> str:
    """Return a stranger's words so that Markdown shows them as they are."""
    return re.sub(r"([\\`*_\[\]<>|#!&~])", r"\\\1", printable(text))


def _code(text: str) -> str:
    """Return a stranger's words as code in a cell, which nothing in them ends."""
    return "`" + printable(" ".join(text.split())).replace("`", "'").replace("|", "¦") + "`" if text else ""
