"""Three trained experts of one kind on one tiny family: what the contracts are checked with."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import torch
from tests.contracts.families import FAMILIES, Tiny, build
from torch import Tensor

from pitune.backbones import Backbone, Batch
from pitune.backbones.answers import Texts
from pitune.experts import (
    KINDS,
    Card,
    Expert,
    Kind,
    attached,
    initial_tensors,
    make_settings,
)
from pitune.pocket.backbone import Pocket

STEPS = 3
LORA_SETTINGS = (
    {"r": 4},
    {"r": 2, "lora_alpha": 3, "use_rslora": True},
    {"r": 3, "rank_pattern": {r".*\.(q|query|q_proj)": 5}, "alpha_pattern": {r".*\.(v|value|v_proj)": 7}},
)
BIASED = {"bert", "clip", "pocket"}  # families whose linear layers have biases


@dataclass(frozen=True)
class Case:
    """A kind of expert on a backbone, with one batch to train and look at."""

    family: str
    backbone: Backbone
    batch: Batch
    method: Kind
    experts: list[Expert] = field(default_factory=list)

    def scores(self, expert: Expert) -> Tensor:
        with (
            torch.no_grad(),
            attached(self.backbone, self.method, expert.settings) as place,
        ):
            return place.scores(expert.tensors, self.batch)

    def train(self, seed: int, **settings: object) -> Expert:
        """Train an expert for targets drawn by the seed."""
        settings_ = make_settings(self.method, self.backbone, **settings)
        generator = torch.Generator().manual_seed(seed)
        answers = len(self.batch.answers)
        target = torch.randint(0, answers, self.batch.target.shape, generator=generator)
        batch = Batch(self.batch.ids, self.batch.inputs, self.batch.answers, target)
        with attached(self.backbone, self.method, settings_) as place:
            start = initial_tensors(self.method, place.shapes, 0, settings_)
            tensors = {name: value.requires_grad_() for name, value in start.items()}
            optimizer = torch.optim.AdamW(tensors.values(), lr=3e-2)
            for _ in range(STEPS):
                optimizer.zero_grad()
                place.losses(tensors, batch).mean().backward()
                optimizer.step()
        card = Card(name=f"expert-{seed}", backbone=self.backbone.fingerprint, base_model=self.backbone.name)
        done = {name: value.detach() for name, value in tensors.items()}
        return Expert(self.method, settings_, done, card)

    def settings(self, number: int) -> dict[str, object]:
        """Return settings for the number-th expert: LoRAs differ, the other kinds must not."""
        if self.method.name == "adapter" and self.family in ("clip", "t5"):
            return {"placement": "parallel", "activation": "silu", "scale": 0.5}
        if self.method.name != "lora":
            return {"length": 3} if "length" in self.method.settings.model_fields else {}
        return {**LORA_SETTINGS[number], "lora_bias": number == 1 and self.family in BIASED}


@functools.cache
def tiny(family: str) -> Tiny:
    return build(family)


SPOKEN = ("text_prompt", "unified_prompt")  # kinds that join the words of answers, which a batch then holds as tokens
POCKET = ("lora", "adapter", "bitfit", "layernorm", "ia3", "prefix", "prompt", "deep_prompt", "visual_prompt", *SPOKEN)
CASES = [(family, name) for family in FAMILIES for name in KINDS.names() if KINDS.get(name).has_place(tiny(family))]
CASES += [("pocket", name) for name in POCKET]
_MADE: dict[tuple[str, str], Case] = {}


def make_case(pair: tuple[str, str], pocket: Pocket, pocket_batch: Batch) -> Case:
    """Return the case of a (family, method); its experts are trained once a session."""
    if pair not in _MADE:
        family, name = pair
        backbone: Backbone = pocket if family == "pocket" else tiny(family)
        batch = pocket_batch if family == "pocket" else tiny(family).batch
        if family == "pocket" and name in SPOKEN:
            names = ("sea", "hill", "town")
            batch = replace(batch, answers=pocket._answer_rows(Texts(names, (0, 1, 2), names)))
        made = Case(family, backbone, batch, KINDS.get(name))
        made.experts.extend(made.train(seed, **made.settings(seed)) for seed in range(3))
        _MADE[pair] = made
    return _MADE[pair]
