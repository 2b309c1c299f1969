"""Align the pocket backbone: make the frozen stem's tokens readable to the sentence encoder.

    python scripts/align_pocket.py            # writes src/pitune/pocket/data/pocket-alignment.{safetensors,json}

Contrastive training (CLIP's symmetric loss) on openclipart pairs that no task uses. What trains: the
projection, and LoRA factors in the trunk that are merged into it when the backbone is loaded. The text side
is held to the published encoder's vectors, so that whatever it knew of language stays. One tenth of the
drawings is held out to choose the epoch; tuxpaint's stamps are looked at once, at the end, for the card.
"""

from __future__ import annotations

import argparse
import json
import re
import time
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from pitune.archives import fetch
from pitune.files import json_bytes, write_atomic
from pitune.pocket import ARCHIVES
from pitune.pocket import weights as weights
from pitune.pocket.backbone import Pocket, stem_cache
from pitune.pocket.model import TOKENS, PocketModel, Projection, mean_pool
from pitune.pocket.parts import position
from pitune.pocket.sources import openclipart, tuxpaint
from pitune.pocket.stem import WIDTH
from pitune.tasks import Example

OUT = Path(__file__).parents[1] / "src/pitune/pocket/data"


@dataclass(frozen=True)
class Settings:
    """What the alignment was trained with."""

    epochs: int = 6
    batch: int = 192
    rank: int = 8
    projection_rate: float = 1e-3
    lora_rate: float = 2e-4
    weight_decay: float = 0.2
    keep_text: float = 4.0
    token_dropout: float = 0.25
    seed: int = 0


@dataclass(frozen=True)
class Pairs:
    """Images as stem features, captions as token ids, and where captions lie for the published encoder."""

    tokens: Tensor
    logits: Tensor
    captions: list[str]
    groups: list[str]


class LoraLinear(nn.Module):
    """A frozen linear layer and a low-rank update of it."""

    def __init__(self, base: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.base = base
        self.lora_A = nn.Parameter(torch.randn(rank, base.in_features, generator=generator) / rank)
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.lora_A.T @ self.lora_B.T


def read_pairs(found: list, backbone: Pocket) -> Pairs:
    examples = [Example(pair.id, "", image=pair.image) for pair in found]
    parts = [
        torch.from_numpy(backbone._image_features(examples[i : i + 64]))
        for i in tqdm(range(0, len(examples), 64), "stem")
    ]
    features = torch.cat(parts)
    tokens = features[:, : TOKENS * WIDTH].unflatten(1, (TOKENS, WIDTH))
    return Pairs(
        tokens, features[:, TOKENS * WIDTH :], [pair.caption for pair in found], [pair.group for pair in found]
    )


def class_names() -> list[str]:
    """Return the 1,000 ImageNet class names of CLIP's prompt engineering, out of the open_clip wheel."""
    with zipfile.ZipFile(fetch(ARCHIVES["open-clip"])) as wheel:
        source = wheel.read("open_clip/zero_shot_metadata.py").decode()
    block = re.search(r"IMAGENET_CLASSNAMES\s*=\s*\((.*?)\n\)", source, re.S)
    assert block
    names = [json.loads(text) for text in re.findall(r'"(?:[^"\\]|\\.)*"', block.group(1))]
    assert len(names) == 1000
    return names


def encode_text(backbone: Pocket, trunk: nn.Module, texts: list[str]) -> Tensor:
    tokens = backbone._tokens(texts)
    hidden = trunk(**tokens).last_hidden_state
    return F.normalize(mean_pool(hidden, tokens["attention_mask"]), dim=-1)


def encode_all(backbone: Pocket, trunk: nn.Module, texts: list[str]) -> Tensor:
    with torch.no_grad():
        return torch.cat([encode_text(backbone, trunk, texts[i : i + 128]) for i in range(0, len(texts), 128)])


def encode_images(model: PocketModel, tokens: Tensor, logits: Tensor) -> Tensor:
    return model.encode({"image_tokens": tokens.float(), "image_logits": logits.float()})


def contrastive(scores: Tensor, others: Tensor) -> Tensor:
    """Return CLIP's symmetric loss of scores (B, B); `others` marks pairs that mean the same, which are left out."""
    scores = scores.masked_fill(others, float("-inf"))
    target = torch.arange(len(scores))
    return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2


def recall(images: Tensor, captions: Tensor) -> dict[str, float]:
    """Return image-to-caption recall; equal captions count as one."""
    scores = images @ captions.T
    rank = (scores > scores.diagonal()[:, None] + 1e-6).sum(1)
    return {f"R@{k}": round((rank < k).float().mean().item(), 4) for k in (1, 5, 10)}


@torch.no_grad()
def evaluate(backbone: Pocket, model: PocketModel, data: Pairs) -> dict[str, float]:
    images = torch.cat(
        [encode_images(model, data.tokens[i : i + 64], data.logits[i : i + 64]) for i in range(0, len(data.tokens), 64)]
    )
    return recall(images, encode_all(backbone, model.answer_trunk, data.captions))


def select(data: Pairs, rows: list[int]) -> Pairs:
    index = torch.tensor(rows)
    return Pairs(
        data.tokens[index], data.logits[index], [data.captions[i] for i in rows], [data.groups[i] for i in rows]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = vars(parser.parse_args())
    out = arguments.pop("out")
    settings = Settings(**arguments)
    torch.manual_seed(settings.seed)
    generator = torch.Generator().manual_seed(settings.seed)
    started = time.time()

    trunk, tokenizer = weights.trunk_and_tokenizer()
    projection = Projection(trunk.config.hidden_size)
    model = PocketModel(trunk, projection)
    backbone = Pocket(model, weights.stem(), tokenizer, "unaligned", stem_cache())
    names = class_names()
    projection.class_embeddings.copy_(encode_all(backbone, model.answer_trunk, names))
    nn.init.normal_(projection.positions, std=0.02, generator=generator)
    nn.init.eye_(projection.conse.weight)
    data = read_pairs(openclipart.pairs("alignment"), backbone)
    held = [i for i, group in enumerate(data.groups) if position(f"held out {group}") < 0.1]
    kept = sorted(set(range(len(data.groups))) - set(held))
    train, dev = select(data, kept), select(data, held)
    print(f"{len(kept)} pairs to train on, {len(held)} held out")

    layers = {}
    for i in range(trunk.config.num_hidden_layers):
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            site = f"encoder.layer.{i}.{part}"
            layers[site] = LoraLinear(trunk.get_submodule(site), settings.rank, generator)
            trunk.set_submodule(site, layers[site])
    lora = [p for layer in layers.values() for p in (layer.lora_A, layer.lora_B)]
    projection.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [
            {"params": list(projection.parameters()), "lr": settings.projection_rate},
            {"params": lora, "lr": settings.lora_rate},
        ],
        weight_decay=settings.weight_decay,
    )
    steps = settings.epochs * (len(kept) // settings.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [settings.projection_rate, settings.lora_rate], total_steps=steps, pct_start=0.1
    )
    published = encode_all(backbone, model.answer_trunk, train.captions)

    def snapshot() -> dict[str, Tensor]:
        numbers = {f"projection.{name}": value.detach().clone() for name, value in projection.state_dict().items()}
        for site, layer in layers.items():
            numbers[f"lora.{site}.lora_A.weight"] = layer.lora_A.detach().half()
            numbers[f"lora.{site}.lora_B.weight"] = layer.lora_B.detach().half()
        for name in ("linear.weight", "conse.weight", "class_embeddings"):
            numbers[f"projection.{name}"] = numbers[f"projection.{name}"].half()
        return {name: value.contiguous() for name, value in numbers.items()}

    def merged() -> PocketModel:
        fresh, _ = weights.trunk_and_tokenizer()
        return weights.build(fresh, snapshot())

    best, best_score = snapshot(), -1.0
    print("start", evaluate(backbone, model, dev), flush=True)
    for epoch in range(settings.epochs):
        order = torch.randperm(len(kept), generator=generator)
        losses = []
        for start in range(0, len(kept) - settings.batch + 1, settings.batch):
            rows = order[start : start + settings.batch]
            tokens = train.tokens[rows].float()
            drop = torch.rand(tokens.shape[:2], generator=generator) < settings.token_dropout
            tokens = torch.where(drop.unsqueeze(-1), tokens.mean(1, keepdim=True), tokens)
            images = encode_images(model, tokens, train.logits[rows])
            captions = encode_text(backbone, trunk, [train.captions[i] for i in rows])
            scale = projection.log_scale.exp()
            same = published[rows] @ published[rows].T > 0.98
            others = same & ~torch.eye(len(rows), dtype=torch.bool)
            contrast = contrastive(scale * images @ captions.T, others)
            drift = (1 - (captions * published[rows]).sum(-1)).mean()
            loss = contrast + settings.keep_text * drift
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append((contrast.item(), drift.item()))
        found = evaluate(backbone, merged(), dev)
        mean = [round(sum(column) / len(losses), 4) for column in zip(*losses, strict=True)]
        state = {"scale": round(projection.log_scale.exp().item(), 2), "residual": round(projection.residual.item(), 3)}
        print(
            epoch + 1,
            "contrast, drift",
            mean,
            "held out",
            found,
            state,
            f"{time.time() - started:.0f} s",
            flush=True,
        )
        if sum(found.values()) > best_score:
            best, best_score, best_epoch = snapshot(), sum(found.values()), epoch + 1
    print("best epoch", best_epoch)

    model = weights.build(weights.trunk_and_tokenizer()[0], best)
    stamps = read_pairs(tuxpaint.pairs(), backbone)
    natural = [i for i, pair in enumerate(tuxpaint.pairs()) if pair.category != "symbols"]
    card = {
        "data": f"openclipart {ARCHIVES['openclipart-png'].version}, alignment side, without what any task uses",
        "pairs": len(kept),
        "held_out_pairs": len(held),
        "epoch": best_epoch,
        "steps": best_epoch * (len(kept) // settings.batch),
        "seconds": round(time.time() - started),
        "settings": asdict(settings),
        "zero_shot": {
            "openclipart, held out": {"n": len(held), **evaluate(backbone, model, dev)},
            "tuxpaint, all": {"n": len(stamps.captions), **evaluate(backbone, model, stamps)},
            "tuxpaint, natural": {"n": len(natural), **evaluate(backbone, model, select(stamps, natural))},
        },
    }
    write_atomic(out / "pocket-alignment.safetensors", safetensors.torch.save(best))
    write_atomic(out / "pocket-alignment.json", json_bytes(card))
    print(json.dumps(card, indent=2))


if __name__ == "__main__":
    main()
