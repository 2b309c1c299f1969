"""A training step of a LoRA in the upper layers of the packaged language model: `python benchmarks/upper_layers.py`.

kept        what lies below the lowest layer that trains is computed once an example
run         the same LoRA, with everything below run at every step
all         a LoRA in all layers
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
from ratios import paired

from pitune.backbones import load_backbone
from pitune.backbones.causal_lm import CausalLM
from pitune.experts import KINDS, attached, initial_tensors, make_settings
from pitune.smollm2 import NAME
from pitune.tasks import load_task


def main() -> None:
    """Print ratios and seconds as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="pocket/nyt")
    parser.add_argument("--layers", type=int, default=6, help="how many of the upper layers train")
    parser.add_argument("--examples", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    backbone, task, kind = load_backbone(NAME), load_task(asked.task), KINDS.get("lora")
    assert isinstance(backbone, CausalLM)
    examples = task.examples("train")[: asked.examples]
    above = tuple(f"{layer}." for layer in backbone.blocks[-asked.layers :])
    sites = tuple(site for site in backbone.sites("attention") if site.startswith(above))

    def step(keeps: bool, **config: tuple[str, ...]) -> Callable[[], None]:
        settings = make_settings(kind, backbone, **config)

        def run() -> None:
            with attached(backbone, kind, settings) as place:
                tensors = {n: v.requires_grad_() for n, v in initial_tensors(kind, place.shapes, 0).items()}
                prepare = place.prepare if keeps else backbone.prepare
                place.losses(tensors, prepare(examples, task)).mean().backward()

        return run

    kept, run, everywhere = step(True, target_modules=sites), step(False, target_modules=sites), step(False)
    started = time.perf_counter()
    kept()
    first = time.perf_counter() - started
    found: dict[str, object] = {
        "tokens": list(backbone.prepare(examples, task).inputs["input_ids"].shape),
        "kept / run": paired(kept, run, asked.rounds),
        "kept / all": paired(kept, everywhere, asked.rounds),
        "first step, seconds": round(first, 2),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
