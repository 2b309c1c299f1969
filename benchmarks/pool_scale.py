"""What a large pool takes: each number beside its aim, in wall and in processor seconds.

    python benchmarks/pool_scale.py plant [--experts 10000]   # a pool of planted neighbours, about 95 KB an expert
    python benchmarks/pool_scale.py open                      # opening it, the ten nearest of it, adding one to it
    python benchmarks/pool_scale.py graph                     # the exact graph of 1,000 of its embeddings
    python benchmarks/pool_scale.py storage                   # the size of a thousand LoRAs of rank 8 with embeddings
    python benchmarks/pool_scale.py recall                    # sketches against whole embeddings of pocket's own tasks
    python benchmarks/pool_scale.py trial [--experts 1000]    # trying a pool on few labels, halved and exhaustively

Planted experts have embeddings of pocket's shape and weights of rank 1 at one site. They lie along eight directions,
and every 25 are a family at growing distances from a task of their own; queries are such tasks. All is under
`--folder`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from pitune.experts import Card, Expert, ExpertPool, PoolIndex, load_expert, load_fisher
from pitune.experts.expert import expert_of
from pitune.files import json_bytes, sha256_bytes
from pitune.prediction import fisher_similarities, nearest
from pitune.prediction.similarity import similarities_to

PARTS = ("self.query", "self.key", "self.value", "output.dense")
SITES = [f"encoder.layer.{i}.attention.{part}" for i in range(6) for part in PARTS]
WIDTH, RANK, FAMILY, DIRECTIONS = 384, 8, 25, 8
SHAPE = (len(SITES), WIDTH, RANK)


@contextmanager
def timed(what: str, aim: str) -> Iterator[None]:
    """Print what a block took."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what}: {wall:.3f} s, {cpu:.3f} s of processor, {peak:.2f} GiB at most (aim: {aim})", flush=True)


class Planted:
    """Log-Fisher codes, an eighth of an octave each, of planted tasks."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.base = random.normal(170, 16, SHAPE).astype(np.float32)
        self.along = random.normal(0, 4, (DIRECTIONS, *SHAPE)).astype(np.float32)

    def task(self, family: int) -> np.ndarray:
        """Return the codes of a family's own task."""
        random = np.random.default_rng([1, family])
        where = random.normal(0, 1, DIRECTIONS).astype(np.float32)
        return self.base + np.tensordot(where, self.along, 1) + random.normal(0, 6, SHAPE).astype(np.float32)

    def member(self, task: np.ndarray, i: int) -> np.ndarray:
        """Return the codes of the expert i, the further from its family's task the later it comes."""
        random = np.random.default_rng([2, i])
        return task + random.standard_normal(SHAPE, np.float32) * (2 + 14 * (i % FAMILY) / FAMILY)


def stored(codes: np.ndarray) -> bytes:
    """Return codes as an expert keeps them."""
    whole = torch.from_numpy(codes.round().clip(1, 255).astype(np.uint8))
    named = {f"probe.{site}.lora_B.weight": whole[t].contiguous() for t, site in enumerate(SITES)}
    return safetensors.torch.save({**named, "tops": torch.full((len(SITES),), -100, dtype=torch.int16)})


def template(name: str, rank: int, sites: list[str], embedded: bool) -> Expert:
    """Return a LoRA of random weights on pocket's shapes."""
    random = torch.Generator().manual_seed(int(sha256_bytes(name.encode())[:8], 16))
    tensors = {}
    for site in sites:
        tensors[f"{site}.lora_A.weight"] = torch.randn(rank, WIDTH, generator=random)
        tensors[f"{site}.lora_B.weight"] = torch.randn(WIDTH, rank, generator=random) / 100
    card = Card(name=name, backbone="0" * 64, base_model="pocket", task=name)
    made = expert_of("lora", {"r": rank, "target_modules": sites}, tensors, card)
    if not embedded:
        return made
    fisher = {f"expert.{name}": torch.randn(v.shape, generator=random).mul(3).exp() for name, v in tensors.items()}
    fisher |= {name.replace("expert.", "probe."): v for name, v in fisher.items() if "lora_B" in name}
    return replace(made, fisher=fisher)


def plant(folder: Path, experts: int) -> None:
    """Write the pool, without the flushing to disk that `pitune pool add` does for each."""
    planted, pool = Planted(), folder / "pool"
    shutil.rmtree(pool, ignore_errors=True)
    for i in range(experts):
        if i % FAMILY == 0:
            task = planted.task(i // FAMILY)
        name = f"e{i:05}"
        if i == 0:
            template(name, 1, SITES[:1], False).save(pool / name)
            record = json.loads((pool / name / "expert.json").read_text())
            rest = {file: (pool / name / file).read_bytes() for file in ("adapter_config.json", "README.md")}
        weights = {f"base_model.model.{n}": v for n, v in template(name, 1, SITES[:1], False).tensors.items()}
        files = {
            **rest,
            "adapter_model.safetensors": safetensors.torch.save(
                {f"base_model.model.{n}": v for n, v in weights.items()}
            ),
            "fisher.safetensors": stored(planted.member(task, i)),
        }
        record["card"] |= {"name": name, "task": name}
        record["files"] = {file: sha256_bytes(data) for file, data in files.items()}
        (pool / name).mkdir(parents=True, exist_ok=True)
        for file, data in {**files, "expert.json": json_bytes(record)}.items():
            (pool / name / file).write_bytes(data)


def query(planted: Planted, family: int) -> dict[str, torch.Tensor]:
    """Return the embedding of a family's own task."""
    codes = torch.from_numpy(planted.task(family).round().clip(1, 255))
    return {f"{site}.lora_B.weight": torch.exp2((codes[t] - 355) / 8) for t, site in enumerate(SITES)}


def probes(pool: ExpertPool, names: list[str]) -> list[dict[str, torch.Tensor]]:
    """Return the embeddings of some experts."""
    found = (load_fisher(pool.path(name), "probe.") for name in names)
    return [{name.removeprefix("probe."): value for name, value in one.items()} for one in found]


def open_pool(folder: Path) -> None:
    """Measure opening, retrieval and adding."""
    pool = ExpertPool(folder / "pool", create=False)
    with timed("reading every expert for the first time, or what has changed", "no aim"):
        PoolIndex(pool)
    with timed("opening", "under 2 s"):
        index = PoolIndex(ExpertPool(folder / "pool"))
    planted, names = Planted(), list(index.entries)
    with timed("finding copies, once after opening", "with opening under 2 s"):
        names = index.originals(names)
    nearest(index, query(planted, 0), names, 10)
    tried, right = [n * 7 % (len(names) // FAMILY) for n in range(5)], 0
    asked = [query(planted, family) for family in tried]
    with timed(f"{len(tried)} times the ten nearest of {len(names)}", "under 0.050 s each"):
        found = [nearest(index, one, names, 10) for one in asked]
    for one, near in zip(asked[:2], found, strict=False):
        exact = np.concatenate(
            [similarities_to(one, probes(pool, names[i : i + 250])) for i in range(0, len(names), 250)]
        )
        right += len({names[i] for i in np.argsort(-exact)[:10]} & {name for name, _ in near})
    print(f"recall at 10 against exact, of two queries: {right / 20:.2f} (aim: 0.95)")
    made = template("added", RANK, SITES, True)
    with timed("writing one expert", "no aim"):
        made.save(folder / "apart")
    with timed("adding one and opening again", "0.100 s above the writing and the opening"):
        pool.add(made)
        PoolIndex(pool)
    pool.remove("added")


def graph(folder: Path) -> None:
    """Measure the exact graph."""
    pool = ExpertPool(folder / "pool", create=False)
    with timed("reading 1,000 embeddings", "with the graph under 60 s and 2 GB"):
        read = probes(pool, pool.names()[:1000])
    with timed(f"the graph of {len(read)}", "under 60 s and 2 GB"):
        fisher_similarities(read)


def storage(folder: Path) -> None:
    """Measure what a thousand experts take, by ten."""
    shutil.rmtree(folder / "ten", ignore_errors=True)
    for i in range(10):
        template(f"full{i}", RANK, SITES, True).save(folder / "ten" / f"full{i}")
    blocks = sum(path.stat().st_blocks * 512 for path in (folder / "ten").rglob("*"))
    print(f"1,000 LoRAs of rank 8 with both embeddings: {blocks / 10 / 1e6:.3f} GB on disk (aim: under 1 GB)")
    load_expert(folder / "ten" / "full0")


def main() -> None:
    """Run what is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("plant", "open", "graph", "storage"))
    parser.add_argument("--experts", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/pitune-pool-scale"))
    options = parser.parse_args()
    os.environ.setdefault("PITUNE_HOME", str(options.folder / "home"))
    if options.what == "plant":
        plant(options.folder, options.experts)
    else:
        {"open": open_pool, "graph": graph, "storage": storage}[options.what](options.folder)


if __name__ == "__main__":
    main()
