"""Sentence encoders: BERT, MPNet, ModernBERT and kin with the pooling that sentence-transformers keeps beside them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel

from pitune.backbones.answers import Joined, MatchesAnswers, averaged, scaled_cosines, texts_of
from pitune.backbones.base import Batch, batch_answers, masked_log_softmax, target_losses
from pitune.backbones.checkpoint import Checkpoint
from pitune.backbones.family import Family
from pitune.backbones.sites import find_sites
from pitune.errors import InputError
from pitune.files import sha256_bytes
from pitune.tasks import Example, Task, Wording

SCALE = 20.0  # of cosines, as sentence-transformers trains them
_TEXTS = 64  # encoded at a time
_READS = ("bert", "mpnet", "modernbert", "roberta", "xlm-roberta", "distilbert", "camembert")
_WITH_POOLER = ("bert", "camembert", "mpnet", "roberta", "xlm-roberta")  # of their own, which nothing reads here
_FROM_ZERO = ("bert", "distilbert", "modernbert")  # others count places from behind that of their padding
_BIASED = ("mpnet",)  # attention adds a number for every two places, so that no vectors can join them


def _first(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden[:, 0]


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)


def _largest(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden.masked_fill(mask[..., None] == 0, float("-inf")).amax(1)


_POOLS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": _first,
    "mean": _mean,
    "max": _largest,
    "mean_sqrt_len": _mean,  # longer by a factor, which a cosine does not see
}


@dataclass(frozen=True)
class Reading:
    """How texts are read: what stands before each, how many tokens at most, and what becomes of those (`pool`)."""

    pool: str
    before: str
    longest: int
    lower: bool


class SentenceEncoder(MatchesAnswers):
    """A frozen encoder of texts; inputs and answers are matched by the cosine of their vectors.

    Experts attach inside `module`, which reads inputs; answers are read by the same weights without them, once.
    """

    vectorises = False

    def __init__(self, model: Any, tokenizer: Any, reading: Reading, name: str, fingerprint: str) -> None:
        self.module: nn.Module = model.requires_grad_(False).eval()
        self.name = name
        self.fingerprint = fingerprint
        self.width = int(model.config.hidden_size)
        self.joined: Joined | None = None
        self._biased = model.config.model_type in _BIASED
        self._tokenizer, self._reading = tokenizer, reading
        shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self._answer_module: nn.Module = copy.deepcopy(self.module, shared)
        self._encoded = lru_cache(maxsize=64)(self._encode_answers)

    @property
    def device(self) -> torch.device:
        """Where the encoder computes."""
        return next(self.module.parameters()).device

    def sites(self, role: str) -> tuple[str, ...]:
        """Return the sites of the encoder."""
        if role == "layers" and self._biased:
            return ()
        return find_sites(self.module).get(role, ())

    def prepare(self, examples: Sequence[Example], task: Task) -> Batch:
        """Turn texts into tokens, and answers in their templates into vectors; `InputError` if there are images."""
        if any(example.image is not None or example.text is None for example in examples):
            raise InputError(f"task {task.name!r}: has images, and {self.name} reads text alone")
        answers = batch_answers(examples, task, self.device)
        read = self._read_answers([task.wording(answer) for answer in answers.texts])
        inputs = self._tokens([task.input_text(example) or "" for example in examples])
        ids = tuple(example.id for example in examples)
        return Batch(ids, inputs, read, answers.target, answers.allowed, answers.relevant)

    def scores(self, batch: Batch, candidates: Sequence[str] | None = None) -> Tensor:
        """Return log-softmax (B, C) of scaled cosines between inputs and answers."""
        return self.match(self.features(batch), batch, candidates)

    def losses(self, batch: Batch) -> Tensor:
        """Return −log p(target) (B,), or its mean over all right answers of an example that has several."""
        return target_losses(self.scores(batch), batch.target, batch.relevant)

    def features(self, batch: Batch) -> Tensor:
        """Return the inputs' unit vectors (B, D)."""
        return self._vectors(self.module, batch.inputs)

    def match(self, features: Tensor, batch: Batch, candidates: Sequence[str] | None = None) -> Tensor:
        """Return what `scores` does, of features (B, D) that are there already."""
        read, allowed = batch.answers, batch.allowed
        if candidates is not None:
            read, allowed = self._read_answers([Wording(text, (text,)) for text in candidates]), None
        return masked_log_softmax(scaled_cosines(SCALE, features, read), allowed)

    def _read_answers(self, wordings: Sequence[Wording]) -> Tensor:
        texts = texts_of(wordings, self.joined)
        return averaged(self._encoded(texts.texts), torch.tensor(texts.owners, device=self.device))

    @torch.no_grad()
    def _encode_answers(self, texts: tuple[str, ...]) -> Tensor:
        parts = [texts[i : i + _TEXTS] for i in range(0, len(texts), _TEXTS)]
        return torch.cat([self._vectors(self._answer_module, self._tokens(part)) for part in parts])

    def _tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        reading = self._reading
        encoded = self._tokenizer(
            [reading.before + (text.lower() if reading.lower else text) for text in texts],
            padding=True,
            truncation=True,
            max_length=reading.longest,
            return_tensors="pt",
            return_token_type_ids=False,
        )
        return {name: encoded[name].to(self.device) for name in ("input_ids", "attention_mask")}

    def _vectors(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        hidden = module(**inputs).last_hidden_state.float()
        return F.normalize(_POOLS[self._reading.pool](hidden, inputs["attention_mask"]), dim=-1)


def load_sentence_encoder(found: Checkpoint, device: torch.device, dtype: torch.dtype) -> SentenceEncoder:
    """Load an encoder with its pooling; raise `InputError` naming what it has that is not read."""
    tokenizer = found.tokenizer()
    reading = _reading(found, tokenizer)
    more = {"add_pooling_layer": False} if found.config.model_type in _WITH_POOLER else {}
    model = found.model(AutoModel, dtype, **more).to(device)
    whole, *held = found.fingerprint.split(":")
    fingerprint = ":".join([sha256_bytes(f"{whole} {reading}".encode()), *held])
    return SentenceEncoder(model, tokenizer, reading, found.name, fingerprint)


def _reading(found: Checkpoint, tokenizer: Any) -> Reading:
    """Return how sentence-transformers reads texts with this checkpoint."""
    kind, modules = found.config.model_type, found.json("modules.json")
    if modules is None:
        raise InputError(
            f"{found.folder}: is a {kind} with no modules.json, which would say how its vectors are pooled; expected "
            "a sentence encoder as sentence-transformers saves it (SentenceTransformer(FOLDER).save_pretrained)"
        )
    try:
        paths = {str(one["type"]).rpartition(".")[2]: str(one.get("path", "")) for one in modules}
        others = sorted(paths.keys() - {"Transformer", "Pooling", "Normalize"})
        if others or paths.get("Transformer") != "" or "Pooling" not in paths:
            raise InputError(
                f"{found.folder}: modules.json names {', '.join(others or paths) or 'nothing'}; expected a Transformer "
                "in the folder itself, a Pooling and perhaps a Normalize"
            )
        pooling = found.json(f"{paths['Pooling']}/config.json") or {}
        limits = found.json("sentence_bert_config.json") or {}
        said = found.json("config_sentence_transformers.json") or {}
        before = str((said.get("prompts") or {}).get(said.get("default_prompt_name"), ""))
        most = int(limits.get("max_seq_length") or tokenizer.model_max_length)
        lower = bool(limits.get("do_lower_case"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{found.folder}: modules.json and its kin are malformed ({error!r}); fetch it again"
        ) from error
    if before and not pooling.get("include_prompt", True):
        raise InputError(
            f"{found.folder}: leaves its prompt {before!r:.80} out of the pooling; expected include_prompt"
        )
    config: Any = found.config
    places = config.max_position_embeddings - (0 if kind in _FROM_ZERO else int(config.pad_token_id) + 1)
    return Reading(_pool(pooling, found), before, min(most, places), lower)


def _pool(pooling: Mapping[str, Any], found: Checkpoint) -> str:
    """Return the one way of pooling that a configuration asks for, in either of the forms it has had."""
    named = pooling.get("pooling_mode")
    flags = [
        name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for name, on in pooling.items()
        if name.startswith("pooling_mode_") and on
    ]
    wanted = [named] if isinstance(named, str) else list(named or flags)
    if len(wanted) != 1 or wanted[0] not in _POOLS:
        by = " and ".join(map(str, wanted)) or "nothing"
        raise InputError(f"{found.folder}: pools by {by:.200}; expected one of: {', '.join(_POOLS)}")
    return str(wanted[0])


FAMILY = Family(types=_READS, load=load_sentence_encoder)
