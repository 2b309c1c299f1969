"""An expert's card in words, for a stranger: what it is, how good, of what it is made, and how to load it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pitune.backbones import brief
from pitune.errors import printable
from pitune.experts.card import OWN, Card, hub_id

_SHOWN = 12  # answers that are listed
_LOADING = {  # by what loads a folder; `{base}` is the backbone's name
    "pitune": """
```python
import pitune

backbone = pitune.load_backbone({base!r})
expert = pitune.load_expert("FOLDER")
answers = pitune.predict(backbone, None, expert, ["INPUT"])
```

or `pitune predict FOLDER INPUT` in a shell, with this folder as FOLDER.
""",
    "peft": """
In PEFT, with `model` the base model above: `PeftModel.from_pretrained(model, "FOLDER")`.
""",
    "llama.cpp": """
In llama.cpp, beside the base model as a GGUF: `llama-cli -m BASE.gguf --lora FOLDER/FILE.gguf`.
""",
}


def model_card(
    card: Card, *, method: str, config: Mapping[str, Any], parameters: int, library: str, loads: tuple[str, ...]
) -> bytes:
    """Return the `README.md` of an expert's folder; `loads` says what loads that folder."""
    of_rank = f" of rank {config['r']}" if "r" in config else ""
    base = hub_id(card.base_model)[0]
    named = base if re.fullmatch(r"[A-Za-z/][\w./@-]*", base) else json.dumps(base)
    front = ["---", f"base_model: {named}", f"library_name: {library}", "---"]
    lines = [
        *front,
        f"# {_words(card.name)}",
        "",
        f"A {method} expert{of_rank} ({parameters:,} parameters) for {_tasks(card)}.{_answers(card)}",
        "",
        "## How good it is",
        "",
        *_worth(card),
        "",
        "## What it is made of",
        "",
        f"- the frozen backbone `{_code(card.base_model)}`, fingerprint `{_code(brief(card.backbone))}`",
        *_origin(card),
        *_parts(card),
        "",
        "## How to load it",
    ]
    how = "".join(_LOADING[one].format(base=card.base_model) for one in loads if one)
    return ("\n".join(map(printable, lines)) + "\n" + how).encode()


def _tasks(card: Card) -> str:
    names = [f"`{_code(name)}`" for name in card.tasks if name]
    return f"the task{'s' if len(names) > 1 else ''} {', '.join(names)}" if names else "no task of its own"


def _answers(card: Card) -> str:
    asked = card.hyperparameters.get("asked")
    answers = asked.get("answers") if isinstance(asked, dict) else None
    if not answers:
        return ""
    more = f" and {len(answers) - _SHOWN} more" if len(answers) > _SHOWN else ""
    return f" It chooses one of {len(answers)} answers: {', '.join(map(_words, answers[:_SHOWN]))}{more}."


def _worth(card: Card) -> Iterator[str]:
    if card.verdict:
        yield " ".join(map(_words, card.verdict))
    elif card.validation is not None:
        yield f"{_words(card.metric)} {card.validation:.4f} on labels that it did not learn from."
    else:
        yield "Not measured: no labels were held out."


def _origin(card: Card) -> Iterator[str]:
    origin = card.hyperparameters.get("origin")
    if isinstance(origin, dict):
        yield f"- taken over from `{_code(origin.get('imported_from'))}`"
        return
    labels = "all labels" if card.shots is None else f"{card.shots} labels per class"
    yield f"- {labels} of the task's training part (data `{_code(card.data_hash[:16])}`, seed {card.seed})"


def _parts(card: Card) -> Iterator[str]:
    """Yield the experts in a mix, those of one name together, with the mean of their weights over sites."""
    parts = card.parts
    if parts and OWN not in parts:
        yield "- no part of its own: the experts below on the untouched backbone"
    for name, weight in parts.items():
        other = f"the expert `{_code(name)}` of another task"
        what = "a part of its own, trained on these labels" if name == OWN else other
        yield f"- {what}: mean mixing weight {weight:.2f}"


def _words(text: object) -> str:
    """Return a stranger's words so that neither HTML nor a link or picture comes of them."""
    return re.sub(r"([`<>]|!\[|\]\()", r"\\\1", str(text))


def _code(text: object) -> str:
    """Return a stranger's words to stand between backticks, which nothing in them ends."""
    return str(text).replace("`", "'")
