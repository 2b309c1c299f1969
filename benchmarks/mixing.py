"""Our exact mix of LoRAs beside PEFT's `add_weighted_adapter`: `python benchmarks/mixing.py --pool DIR`.

error       ‖ΔW − Σ w_j s_j B_j A_j‖ / ‖Σ w_j s_j B_j A_j‖ over all sites, the sum in float64
metric      of the mix on test examples of the first expert's task
seconds     to mix; the median of three
peak_mib    memory of the process at its highest while mixing, above what it held before (Linux)
rank        of what comes out

The first expert weighs one half, the others share the rest.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import ctypes
import gc
import json
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from peft import get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor

from pitune.backbones import Backbone, load_backbone
from pitune.errors import InputError
from pitune.experts import Expert, ExpertPool, read_config
from pitune.experts.lora import DOWN, LORA, UP, LoraSettings, delta, peft_config
from pitune.interpolation import mix
from pitune.tasks import load_task
from pitune.training import evaluate_expert

DENSITY = 0.5
COMBINATIONS: Mapping[str, dict[str, object]] = {
    "linear": {},
    "cat": {},
    "svd": {},
    "ties": {"density": DENSITY},
    "dare_ties": {"density": DENSITY},
}
ROUNDS = 3


def settings_of(expert: Expert) -> LoraSettings:
    config = read_config(LORA, expert.config, f"expert {expert.name!r}")
    assert isinstance(config, LoraSettings)
    return config


def exact_deltas(experts: Sequence[Expert], weights: Sequence[float]) -> dict[str, Tensor]:
    """Return Σ w_j s_j B_j A_j by site, in float64."""
    total: dict[str, Tensor] = {}
    for expert, weight in zip(experts, weights, strict=True):
        wide = {name: value.double() for name, value in expert.tensors.items()}
        for site in dict.fromkeys(LORA.site(name) for name in wide):
            total[site] = total.get(site, 0.0) + weight * delta(settings_of(expert), wide, site)
    return total


def relative_error(expert: Expert, expected: Mapping[str, Tensor]) -> float:
    """Return the Frobenius distance of an expert's ΔW from what was expected, relative to that."""
    off = whole = 0.0
    for site, value in expected.items():
        found = delta(settings_of(expert), expert.tensors, site).double() if f"{site}{DOWN}" in expert.tensors else 0.0
        off += float((found - value).square().sum())
        whole += float(value.square().sum())
    return (off / whole) ** 0.5


def with_peft(backbone: Backbone, experts: Sequence[Expert], weights: Sequence[float]) -> Callable[[str], Expert]:
    """Load the experts into PEFT and return what mixes them there, read back as an expert of ours."""
    names = [f"expert{i}" for i in range(len(experts))]
    module = copy.deepcopy(backbone.module)
    model = get_peft_model(module, peft_config(settings_of(experts[0])), adapter_name=names[0])
    for name, expert in zip(names[1:], experts[1:], strict=True):
        model.add_adapter(name, peft_config(settings_of(expert)))
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, LoraLayer)}
    for name, expert in zip(names, experts, strict=True):
        for site, layer in layers.items():
            if f"{site}{DOWN}" in expert.tensors:
                layer.lora_A[name].weight.data.copy_(expert.tensors[f"{site}{DOWN}"])
                layer.lora_B[name].weight.data.copy_(expert.tensors[f"{site}{UP}"])

    def combine(kind: str) -> Expert:
        torch.manual_seed(0)  # DARE draws what it drops
        if "mixed" in model.peft_config:
            model.delete_adapter("mixed")
        model.add_weighted_adapter(names, list(weights), "mixed", combination_type=kind, **COMBINATIONS[kind])
        return read_back(layers, experts[0])

    return combine


def read_back(layers: Mapping[str, LoraLayer], like: Expert) -> Expert:
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for site, layer in layers.items():
        if "mixed" in layer.lora_A:
            tensors[f"{site}{DOWN}"] = layer.lora_A["mixed"].weight.detach().clone()
            tensors[f"{site}{UP}"] = layer.lora_B["mixed"].weight.detach().clone()
            ranks[site] = tensors[f"{site}{DOWN}"].shape[0]
            alphas[site] = layer.scaling["mixed"] * ranks[site]
    config = LoraSettings(r=max(ranks.values()), target_modules=tuple(ranks), rank_pattern=ranks, alpha_pattern=alphas)
    return Expert(LORA.name, config.model_dump(mode="json"), tensors, like.card)


def memory(field: str) -> float:
    """Return VmRSS or VmHWM of this process in MiB; NaN where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def measured(make: Callable[[], Expert]) -> tuple[Expert, float, float]:
    """Return an expert, the median seconds that making it took, and its peak memory above what was held."""
    seconds = []
    gc.collect()
    with contextlib.suppress(OSError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # freed memory goes back, so that using it anew is seen
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    held = memory("VmRSS")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        made = make()
        seconds.append(time.perf_counter() - started)
    return made, statistics.median(seconds), max(0.0, memory("VmHWM") - held)


def rows_for(backbone: Backbone, experts: Sequence[Expert], examples: int) -> list[dict[str, object]]:
    """Compare all ways to mix these experts."""
    count = len(experts)
    weights = [0.5, *[0.5 / (count - 1)] * (count - 1)]
    expected = exact_deltas(experts, weights)
    task = load_task(experts[0].card.task)
    some = task.examples("test")[:examples]
    combine = with_peft(backbone, experts, weights)
    ways: dict[str, Callable[[], Expert]] = {"exact (pitune)": lambda: mix(experts, weights)}
    ways |= {f"{kind} (PEFT)": lambda kind=kind: combine(kind) for kind in COMBINATIONS}  # type: ignore[misc]
    rows: list[dict[str, object]] = []
    for name, make in ways.items():
        row: dict[str, object] = {"k": count, "mix": name}
        try:
            made, seconds, peak = measured(make)
        except ValueError as error:
            rows.append({**row, "refused": str(error)})
            continue
        value = evaluate_expert(backbone, task, made, some).value
        row |= {"error": relative_error(made, expected), task.metric: value, "seconds": seconds, "peak_mib": peak}
        rows.append({**row, "rank": max(v.shape[0] for n, v in made.tensors.items() if n.endswith(DOWN))})
    return rows


def show(rows: Sequence[Mapping[str, object]]) -> None:
    for row in rows:
        cells = [f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()]
        print("  ".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True, help="a folder of trained LoRA experts of pocket")
    parser.add_argument("--k", type=int, nargs="+", default=[2, 3, 5, 8], help="how many experts to mix")
    parser.add_argument("--examples", type=int, default=200, help="test examples to score a mix by")
    parser.add_argument("--out", type=Path, help="write all rows here as JSON")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    backbone = load_backbone("pocket", "cpu")
    pool = [expert for expert in ExpertPool(given.pool, create=False) if expert.method == LORA.name]
    rows: list[dict[str, object]] = []
    for count in given.k:
        if not 2 <= count <= len(pool):
            print(f"k {count}: left out, the pool has {len(pool)} LoRA experts", flush=True)
            continue
        found = rows_for(backbone, pool[:count], given.examples)
        show(found)
        rows += found
    if not rows:
        raise InputError(f"{given.pool}: has {len(pool)} LoRA experts; expected at least {min(given.k)}")
    if given.out:
        given.out.write_text(json.dumps({"schema": 1, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
