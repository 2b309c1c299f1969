"""Text prompts (CoOp, arXiv 2109.01134): learned vectors in place of the words around a class name.

`[SOS] v_1 … v_M name . [EOS]`: the text tower is given the name and a full stop, whatever the template of the task;
the vectors join as if they were words, so that positions, the causal mask and the place of [EOS] follow. Experts that
were kept without the setting `around` join the text with its template's words, as they did when they were trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from pitune.backbones import Backbone, Joined, Matched
from pitune.errors import InputError
from pitune.experts.insertion import Arguments, Insertion, Values
from pitune.experts.kind import MOST, Attachment, Kind, KindSettings, Size, normal

Placement = Literal["end", "middle", "front"]
Around = Literal["name", "text"]


class TextPromptSettings(KindSettings):
    """`tower` is the module called with token ids, `embedding` the one that looks them up."""

    length: Size = Field(default=16, description="vectors with every class name")
    classes: int = Field(
        default=0, ge=0, le=MOST, description="a set of vectors for each of so many classes; 0 shares one"
    )
    name_at: Placement = Field(default="end", description="where the class name stands among the vectors")
    around: Around = Field(
        default="text", description="what they join: the name and a full stop, or the text with its template"
    )
    words: tuple[int, ...] = Field(
        default=(),
        description="words to start from, such as 'a photo of a', or their token ids; vectors are added to theirs",
    )
    tower: str
    embedding: str

    @model_validator(mode="after")
    def _one_word_a_vector(self) -> TextPromptSettings:
        if self.words and len(self.words) != self.length:
            raise ValueError(f"found {len(self.words)} words for {self.length} vectors; expected one each")
        return self


class TextPrompt(Kind):
    """Vectors (length, width), or (classes, length, width), among the words."""

    name = "text_prompt"
    settings = TextPromptSettings
    roles = ("words",)
    sizes = ("length", "classes")
    adds_input = True
    learning_rate = 2e-2
    at_answers = True

    def default(self, backbone: Backbone) -> dict[str, Any]:
        """Return the text tower and its embedding; vectors join the bare name, as in CoOp."""
        tower, embedding = backbone.sites("words")
        return {"tower": tower, "embedding": embedding, "around": "name"}

    def resolved(self, backbone: Backbone, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return settings whose words, like `a photo of a`, are token ids; their number is the length if none is given.

        Raise `InputError` if the backbone has no tokens for words.

        """
        words = values.get("words")
        if not isinstance(words, str):
            return dict(values)
        if not isinstance(backbone, Matched):
            raise InputError(f"{backbone.name} has no tokens for the words {words!r}; give their ids")
        ids = backbone.word_ids(words.replace("_", " "))
        return {"length": len(ids), **values, "words": ids}

    def attach(self, backbone: Backbone, settings: TextPromptSettings) -> Attachment:
        """Put the vectors among the embedded words of every answer; `InputError` if not `classes` in number."""
        with Insertion(backbone.module) as insertion:
            embedding = embedding_of(insertion, settings.embedding)
            shape = (settings.length, embedding.embedding_dim)
            own = Values(vectors=(settings.classes, *shape) if settings.classes else shape)
            insertion.add(settings.embedding, self.name, own, embedding.weight)

            part = slice(None)

            def vectors() -> Tensor:
                value: Tensor = own.get("vectors")
                if settings.classes:
                    value = value[part]
                if settings.words:
                    value = value + embedding.weight[torch.tensor(settings.words, device=value.device)]
                return value

            def choose(texts: range, total: int) -> None:
                nonlocal part
                if total != settings.classes:
                    raise InputError(f"a text prompt for {settings.classes} classes was given {total} answers")
                part = slice(texts.start, texts.stop)

            put_words(insertion, backbone, settings, vectors, choose if settings.classes else None)
            return insertion.finish()

    def initial(
        self, tensor: str, shape: torch.Size, generator: torch.Generator, settings: TextPromptSettings | None
    ) -> Tensor:
        """Return 0 where words are given, which the vectors then add to, and values of N(0, 0.02²) elsewhere."""
        return torch.zeros(shape) if settings and settings.words else normal(shape, generator)


def put_words(
    insertion: Insertion,
    backbone: Backbone,
    settings: TextPromptSettings,
    vectors: Callable[[], Tensor],
    choose: Callable[[range, int], None] | None = None,
) -> None:
    """Let vectors (M, D), or (B, M, D), join the B texts that a text tower reads.

    `choose` is told which of how many texts come next, where each has vectors of its own.
    """
    reader, length = insertion.find(settings.tower), settings.length
    before_name = {"end": length, "middle": length // 2, "front": 0}[settings.name_at]
    slots: list[Tensor] = []
    names: Tensor | None = None

    def before(texts: range, total: int, found: Tensor | None) -> None:
        nonlocal names
        names = found
        if choose is not None:
            choose(texts, total)

    if isinstance(backbone, Matched):
        bare = settings.around == "name"
        joined = Joined(before, bare, choose is not None, partial(_shown, settings, before_name))
        insertion.set(backbone, "joined", joined)

    def make_room(arguments: Arguments) -> None:
        ids = arguments["input_ids"]
        ends = _ends(reader, arguments)
        stops = ends if names is None else names + 2  # one beyond the place before which the last vectors stand
        source, slot = _layout(_cut(reader, ids, ends, length), stops, before_name, length)
        slots[:] = [slot]
        arguments["input_ids"] = ids.gather(1, source)
        if arguments.get("attention_mask") is not None:
            arguments["attention_mask"] = arguments["attention_mask"].gather(1, source)
        if arguments.get("pooled_mask") is not None:  # where a text is the mean of its words, of those alone
            arguments["pooled_mask"] = arguments["pooled_mask"].gather(1, source).masked_fill(slot >= 0, 0)

    def fill(ids: Tensor, embedded: Tensor) -> Tensor:
        slot, own = slots.pop(), vectors().to(embedded.dtype)
        if own.ndim == 3 and own.shape[0] != len(slot):
            raise InputError(f"a text prompt for {own.shape[0]} classes was given {len(slot)} answers")
        rows = own.expand(len(slot), -1, -1) if own.ndim == 2 else own
        placed = rows.gather(1, slot.clamp(min=0)[..., None].expand(-1, -1, rows.shape[-1]))
        return torch.where(slot[..., None] >= 0, placed, embedded)

    insertion.before(reader, make_room)
    insertion.after(insertion.find(settings.embedding), fill)


def _shown(settings: TextPromptSettings, before_name: int, template: str) -> str:
    """Return a template with the vectors that join it, as in `[v1 … v16] {}.`."""
    first, last = (
        f"[v{start} … v{end}]" if end > start else f"[v{end}]" if end == start else ""
        for start, end in ((1, before_name), (before_name + 1, settings.length))
    )
    text, stop = (template[:-1], template[-1]) if template.endswith(".") else (template, "")
    return " ".join(part for part in (first, text, last) if part) + stop


def _layout(ids: Tensor, stops: Tensor, before_name: int, length: int) -> tuple[Tensor, Tensor]:
    """Return for each place of the longer texts (B, T + M) which token it takes, and which vector or −1.

    Vectors after [SOS] come first; the others stand behind the name, before the token at `stops` − 1 (B,): the full
    stop, which is the last token before [EOS] where nobody says how many tokens the names have.
    """
    places = torch.arange(ids.shape[1] + length, device=ids.device)[None]
    stop = (stops - 1)[:, None] + before_name
    first = (places >= 1) & (places < 1 + before_name)
    second = (places >= stop) & (places < stop + length - before_name)
    slot = torch.where(first, places - 1, torch.where(second, places - stop + before_name, -1))
    passed = torch.where(places >= 1 + before_name, before_name, 0)
    passed = passed + torch.where(places >= stop + length - before_name, length - before_name, 0)
    source = torch.where(slot >= 0, torch.zeros_like(slot), places - passed)  # [SOS] stands in for vectors
    return source, slot


def _ends(tower: nn.Module, arguments: Arguments) -> Tensor:
    """Return where [EOS] stands in each text (B,): by its id, or last where a tower names no id."""
    ids: Tensor = arguments["input_ids"]
    named = getattr(_config(tower), "eos_token_id", None)
    if named is None:
        mask: Tensor = arguments["attention_mask"]
        return mask.sum(1) - 1
    eos = int(named)
    if eos == 2:  # CLIP's first configurations say 2 and mean the largest id
        return ids.argmax(-1)
    return ids.eq(eos).int().argmax(-1)


def _config(tower: nn.Module) -> Any:
    return tower.config


def _cut(tower: nn.Module, ids: Tensor, ends: Tensor, length: int) -> Tensor:
    """Cut padding that the vectors leave no room for; raise `InputError` if a text itself does not fit."""
    most = int(_config(tower).max_position_embeddings)
    if ids.shape[1] + length <= most:
        return ids
    if int(ends.max()) + 1 + length > most:
        raise InputError(
            f"an answer of {int(ends.max()) + 1} tokens and {length} vectors do not fit in the text tower's {most} "
            "places; shorten the prompt or the answer"
        )
    return ids[:, : most - length]


def embedding_of(insertion: Insertion, name: str) -> nn.Embedding:
    """Return the module that looks words up; raise `InputError` if it is something else."""
    found = insertion.find(name)
    if not isinstance(found, nn.Embedding):
        raise InputError(f"{name!r} is a {type(found).__name__}; expected the embedding of tokens")
    return found


TEXT_PROMPT = TextPrompt()
