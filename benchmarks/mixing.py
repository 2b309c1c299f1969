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
import ctypes
import gc
import json
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from pitune.backbones import Backbone, load_backbone
from pitune.errors import InputError
from pitune.experts import Expert, ExpertPool
from pitune.experts.kinds.lora import DOWN, LORA, delta
from pitune.interpolation import mix
from pitune.studies.baselines.peft_mixes import COMBINATIONS, settings_of, with_peft
from pitune.tasks import load_task
from pitune.training import evaluate_expert

ROUNDS = 3


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
