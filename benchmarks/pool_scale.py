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


def recall(folder: Path) -> None:
    """Compare what sketches and codes say with what whole embeddings do, of six draws of Pocket-20's tasks."""
    from pitune import load_backbone
    from pitune.experts.fisher_file import decode_fisher, encode_fisher
    from pitune.experts.sketches import sketch
    from pitune.pocket.collections import POCKET_20
    from pitune.prediction import probe_fisher
    from pitune.prediction.retrieval import sketch_similarities
    from pitune.tasks import few_shot, load_task, spread

    backbone, embedded = load_backbone("pocket"), []
    for seed in range(6):
        for name in POCKET_20:
            draw = few_shot(load_task(name), 4 if seed % 2 else 16, seed, at_most=True)
            embedded.append(probe_fisher(backbone, draw.task, spread(draw.train, 24)))
    exact = fisher_similarities(embedded)
    coded = fisher_similarities([decode_fisher(safetensors.torch.load(encode_fisher(e)), "") for e in embedded])
    moved = np.abs(coded - exact)
    print(f"codes move similarities by {moved.mean():.5f} on average, {moved.max():.5f} at most")
    places = torch.stack([torch.from_numpy(sketch(one)) for one in embedded]).float().exp2()
    rough = np.stack([sketch_similarities(one, places).numpy() for one in places])
    orders = [np.argsort(-(matrix - 2 * np.eye(len(matrix)))) for matrix in (exact, coded, rough)]
    for what, order in (("codes", orders[1]), ("sketches", orders[2])):
        for most in (10, 20, 30):
            right = [len(set(a[:10]) & set(b[:most])) for a, b in zip(orders[0], order, strict=True)]
            print(f"of the ten most alike among the first {most} by {what}: {np.mean(right) / 10:.3f}")


def trial(folder: Path, experts: int) -> None:
    """Try a pool of LoRAs: one that was trained on the target's kin, and the same at ever more noise."""
    from pitune import load_backbone
    from pitune.prediction import Target, neighbours
    from pitune.prediction.trials import halved
    from pitune.tasks import few_shot, load_task
    from pitune.training import TrainingSettings, fit_expert

    backbone, pool = load_backbone("pocket"), ExpertPool(folder / f"trials-{experts}")
    draw = few_shot(load_task("pocket/tweets"), 16, 0)
    if len(pool) < experts:
        like = few_shot(load_task("pocket/amazon"), 16, 0)
        trained, _ = fit_expert(backbone, like, settings=TrainingSettings(steps=30))
        random = torch.Generator().manual_seed(0)
        for i in range(experts):
            noise = 0.02 * (1 + 40 * i / experts)
            tensors = {
                n: v + noise * v.std() * torch.randn(v.shape, generator=random) for n, v in trained.tensors.items()
            }
            card = trained.card.model_copy(update={"name": f"t{i * 7919 % experts:05}"})
            pool.add(replace(trained, tensors=tensors, card=card))
    index, target = PoolIndex(pool), Target(backbone, draw)
    names = list(index.entries)
    with timed(f"halving {len(names)} on {len(target.support)} labels", "1,000 in about 60 s of two cores"):
        halved(target, index, names, 4)
    with timed("neighbours by trial", "the same and the last few whole"):
        found = neighbours(backbone, draw, pool, k=4, by="trial").pairs
    with timed("every expert on every label", "no aim"):
        losses = {name: target.evaluated(pool.get(name)).loss for name in names}
    best = sorted(losses, key=lambda name: losses[name])[:4]
    print(f"chosen by halves {[name for name, _ in found]}, by trying all {best}")


def main() -> None:
    """Run what is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("plant", "open", "graph", "storage", "recall", "trial"))
    parser.add_argument("--experts", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/pitune-pool-scale"))
    options = parser.parse_args()
    if options.what in ("plant", "trial"):
        {"plant": plant, "trial": trial}[options.what](options.folder, options.experts)
    else:
        {"open": open_pool, "graph": graph, "storage": storage, "recall": recall}[options.what](options.folder)


if __name__ == "__main__":
    main()
