"""What each part costs, as ratios within one run: `make bench`.

fisher            per-example Fisher of a batch / one backward pass of the same batch (forward included in both)
interpolated step one training step with own + 4 neighbours / one step of a single expert
upper layers      one training step of a LoRA in pocket's upper half, what lies below kept / run at every step
bf16              one training step with `--precision bf16` / in float32; it depends on the processor
folded            scoring with the folded expert / with a single expert, put into the backbone's weights first
single expert     scoring with a single expert, put there likewise / with the backbone alone
cached images     preparing images whose features are cached / seeing them for the first time
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from pitune.backbones import load_backbone
from pitune.backbones.cache import FeatureCache
from pitune.experts import KINDS, Card, Expert, KindSettings, attached, initial_tensors, make_settings, merged
from pitune.experts.kinds.lora import LORA
from pitune.interpolation import MixingWeights, MixtureLearner, Rates, mix
from pitune.pocket.backbone import _FEATURES, Pocket
from pitune.prediction.fisher import squared_gradients
from pitune.tasks import load_task
from pitune.training.precision import FORMATS, Precision, computing

NEIGHBOURS = 4


def paired(
    first: Callable[[], object],
    second: Callable[[], object],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Time two calls in turn, A B A B, and return the median of each and of the ratio first / second."""
    first(), second()
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        taken = []
        for call in (first, second):
            started = clock()
            call()
            taken.append(clock() - started)
        times.append((taken[0], taken[1]))
    ratios = sorted(a / b for a, b in times)
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    return {
        "ratio": round(statistics.median(ratios), 3),
        "low": round(ratios[0], 3),
        "high": round(ratios[-1], 3),
        "seconds": round(medians[0], 4),
        "baseline_seconds": round(medians[1], 4),
    }


def trained_like(backbone: Pocket, seed: int) -> Expert:
    """Return a LoRA whose ΔW is not zero; what it holds does not matter to a clock."""
    method = KINDS.get("lora")
    config = make_settings(method, backbone)
    with attached(backbone, method, config) as place:
        tensors = initial_tensors(method, place.shapes, seed)
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: value + 0.01 * torch.randn(value.shape, generator=generator) for name, value in tensors.items()}
    card = Card(name=f"bench-{seed}", backbone=backbone.fingerprint, base_model=backbone.name)
    return Expert(LORA, config, tensors, card)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--task", default="pocket/nyt")
    arguments = parser.parse_args()
    backbone = load_backbone("pocket")
    assert isinstance(backbone, Pocket)
    task = load_task(arguments.task)
    batch = backbone.prepare(task.examples("train")[:32], task)
    method = KINDS.get("lora")
    experts = [trained_like(backbone, seed) for seed in range(NEIGHBOURS + 1)]
    one = experts[0]
    config = one.settings
    found = {}

    with attached(backbone, method, config) as place:
        leaves = {name: value.clone().requires_grad_() for name, value in one.tensors.items()}
        wanted = list(leaves)
        draw = torch.rand(len(batch), dtype=torch.float64)

        def backward() -> None:
            place.losses(leaves, batch).mean().backward()

        def fisher() -> None:
            squared_gradients(place, one.tensors, wanted, batch, draw)

        found["fisher / batch backward"] = paired(fisher, backward, arguments.rounds)

    def stepper(chosen: list[Expert]) -> Callable[[], None]:
        configs = [expert.settings for expert in chosen]
        tensors = [expert.tensors for expert in chosen]
        sites = list(dict.fromkeys(method.site(name) for name in one.tensors))
        start = [1.0, *[1 / NEIGHBOURS] * (len(chosen) - 1)]
        learner = MixtureLearner(
            method, configs, tensors, weights=MixingWeights(sites, start, "layer", "free"), rates=Rates()
        )
        parameters = [leaf.requires_grad_() for leaf, _ in learner.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=1e-6, fused=True)

        def step() -> None:
            with attached(backbone, method, method.combined(configs, tensors)) as place:
                place.losses(learner.tensors(), batch).mean().backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    found[f"step with {NEIGHBOURS} neighbours / single step"] = paired(
        stepper(experts), stepper([one]), arguments.rounds
    )

    upper = backbone.sites("layers")[len(backbone.sites("layers")) // 2 :]
    sites = tuple(
        site for site in backbone.sites("attention") if site.startswith(tuple(f"{layer}." for layer in upper))
    )
    above = make_settings(method, backbone, target_modules=sites)
    examples = task.examples("train")[:32]

    def learner_of(settings: KindSettings, keeps: bool) -> Callable[[], None]:
        def step() -> None:
            with attached(backbone, method, settings) as place:
                tensors = {n: v.requires_grad_() for n, v in initial_tensors(method, place.shapes, 0).items()}
                prepare = place.prepare if keeps else backbone.prepare
                place.losses(tensors, prepare(examples, task)).mean().backward()

        return step

    kept, run = (learner_of(above, keeps) for keeps in (True, False))
    found["step in the upper half, what is below kept / run"] = paired(kept, run, arguments.rounds)
    everywhere = learner_of(config, False)
    found["step in the upper half, kept / step in all layers"] = paired(kept, everywhere, arguments.rounds)

    def stepped(precision: Precision) -> Callable[[], None]:
        def step() -> None:
            with attached(backbone, method, config) as place, place.casting(FORMATS.get(precision)):
                tensors = {n: v.requires_grad_() for n, v in initial_tensors(method, place.shapes, 0).items()}
                for _ in range(8):  # of one run, which casts the frozen weights once
                    with computing(precision, backbone.device):
                        losses = place.losses(tensors, batch)
                    losses.mean().backward()

        return step

    found["eight steps in bf16 / in float32"] = paired(stepped("bf16"), stepped("fp32"), arguments.rounds)

    def scorer(expert: Expert) -> Callable[[], None]:
        def score() -> None:
            place, tensors = merged(backbone, expert)  # as `pitune eval` and `predict` do, once a call
            with torch.no_grad():
                place.scores(tensors, batch)

        return score

    folded = mix(experts, [1 / len(experts)] * len(experts), rank=8)
    others = [trained_like(backbone, NEIGHBOURS + 1 + seed) for seed in range(len(experts))]
    wide, widest = (mix(some, [1 / len(some)] * len(some)) for some in (experts, [*experts, *others]))
    found["folded to rank 8 / single expert"] = paired(scorer(folded), scorer(one), arguments.rounds)
    found["folded exactly (rank 40) / single expert"] = paired(scorer(wide), scorer(one), arguments.rounds)
    found["soup folded exactly (rank 80) / single expert"] = paired(scorer(widest), scorer(one), arguments.rounds)
    found["single expert / none"] = paired(scorer(one), lambda: backbone.scores(batch), arguments.rounds)

    images = load_task("pocket/digits")
    some = images.examples("train")[:64]
    backbone.prepare(some, images)
    with tempfile.TemporaryDirectory() as folder:
        count = iter(range(1_000_000))

        def unseen() -> None:
            fresh = FeatureCache(Path(folder) / f"{next(count)}.sqlite", (_FEATURES,))
            Pocket(backbone.model, backbone._stem, backbone._tokenizer, "bench", fresh).prepare(some, images)
            fresh.close()

        found["cached images / first sight"] = paired(lambda: backbone.prepare(some, images), unseen, arguments.rounds)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
