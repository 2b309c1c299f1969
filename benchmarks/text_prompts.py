"""Text-prompt training at ViT-B/16 shapes against the papers' flow, in one run, with random weights.

    python benchmarks/text_prompts.py [--classes 10 100 1000] [--batches 2] [--rounds 2] [--per-class]

In the papers' flow both towers run at every step, and every class is read at all 77 places. Here images are encoded
once, what all classes begin with is read once, and what stands behind a name's end is not read. An epoch is so many
batches of 32 images, from files to gradients, in seconds of the processor, so that a busy machine matters little; our
first one, which also looks at the images, stands beside it. Losses and gradients are compared on the same batches.
Names are of one to six tokens, three on average. Each number of classes runs in a process of its own, which keeps the
memory it is given; beyond 100 the papers' flow is left out, for its activations take tens of GiB.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from real_shapes import KEEP, Words
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

from pitune.backbones.dual_encoder import DualEncoder
from pitune.experts import KINDS, Attached, attached, initial_tensors, make_settings
from pitune.tasks import Example, Task

BATCH, MOST_IN_PAPERS = 32, 100
LENGTHS = (1, 2, 2, 3, 3, 4, 6)


class AsInThePapers(DualEncoder):
    """Both towers at every step, every class at all places, nothing cached, shared or computed again."""

    def carries_expert(self, kind: str) -> bool:
        return True

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        tokens = super()._tokens(texts)
        return F.pad(tokens, (0, self._model.config.text_config.max_position_embeddings - tokens.shape[2]))

    def _text_vectors(self, tokens: Tensor) -> Tensor:
        ids, mask = tokens
        found: Tensor = self._model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output
        return F.normalize(found, dim=-1)


def model() -> CLIPModel:
    """Return CLIP of ViT-B/16's shape."""
    torch.manual_seed(0)
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    text = {"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}
    return CLIPModel(CLIPConfig(vision_config={**vision, "patch_size": 16}, text_config=text, projection_dim=512))


def words() -> Words:
    """Return a tokenizer whose [EOS] has the largest id, as CLIP's own."""
    made = Words(True)
    made.eos_token_id = 49407
    return made


def task_of(classes: int, batches: int, folder: Path) -> Task:
    """Return a task of random images."""
    noise = np.random.default_rng(0)
    names = [" ".join(f"n{i}x{j}" for j in range(LENGTHS[i % len(LENGTHS)])) for i in range(classes)]
    examples = []
    for i in range(BATCH * batches):
        path = folder / f"{i}.png"
        Image.fromarray(noise.integers(0, 256, (256, 256, 3), np.uint8)).save(path)
        examples.append(Example(str(i), names[i % classes], image=path))
    return Task("bench", {"train": examples}, answers=tuple(names), answer_template="{} .")


@dataclass(frozen=True)
class Flow:
    """A way to train: a backbone with a text prompt in place."""

    backbone: DualEncoder
    place: Attached
    vectors: dict[str, Tensor]

    def epoch(self, task: Task) -> tuple[float, list[Tensor]]:
        """Return the processor's seconds for an epoch, and the losses and gradients of its batches."""
        examples = task.examples("train")
        found: list[Tensor] = []
        started = time.process_time()
        for start in range(0, len(examples), BATCH):
            batch = self.backbone.prepare(examples[start : start + BATCH], task)
            losses = self.place.losses(self.vectors, batch)
            losses.mean().backward()  # type: ignore[no-untyped-call]
            for value in self.vectors.values():
                assert value.grad is not None
                found += [losses.detach(), value.grad]
                value.grad = None
        return time.process_time() - started, found


@contextmanager
def flow(kind: type[DualEncoder], clip: CLIPModel, classes: int) -> Iterator[Flow]:
    """Put a text prompt into a backbone; `classes` sets of vectors, or one for all where it is 0."""
    backbone = kind(clip, words(), CLIPImageProcessorPil(), "clip", "clip")
    method = KINDS.get("text_prompt")
    config = make_settings(method, backbone, classes=classes)
    with attached(backbone, method, config) as place:
        start = initial_tensors(method, place.shapes, 0, config)
        yield Flow(backbone, place, {name: value.requires_grad_() for name, value in start.items()})


def resident() -> float:
    """Return the memory held now, in GiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 2**30


def peak() -> float:
    """Return the most memory held so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(classes: int, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures for one number of classes."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PITUNE_HOME"] = folder  # features of random weights are of no use to anyone later
        task, clip, sets = task_of(classes, options.batches, Path(folder)), model(), classes * options.per_class
        base = resident()
        row: dict[str, Any] = {"classes": classes, "images": len(task.examples("train"))}
        with flow(DualEncoder, clip, sets) as ours:
            first, found = ours.epoch(task)
            times = [ours.epoch(task)[0] for _ in range(options.rounds)]
        row |= {"epoch_s": min(times), "first_epoch_s": first, "gib_above_model": peak() - base}
        if classes > MOST_IN_PAPERS:
            return row
        with flow(AsInThePapers, clip, sets) as theirs:
            seconds, expected = theirs.epoch(task)
            more = [theirs.epoch(task)[0] for _ in range(options.rounds - 1)]
        row |= {"papers_epoch_s": min([seconds, *more]), "papers_gib_above_model": peak() - base}
        row["faster"] = row["papers_epoch_s"] / row["epoch_s"]
        off = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, expected, strict=True)]
        return {**row, "losses_differ_by": max(off[::2]), "gradients_differ_by": max(off[1::2])}


def main() -> None:
    """Measure each number of classes in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--batches", type=int, default=2, help="of 32 images, in an epoch")
    parser.add_argument("--rounds", type=int, default=2, help="epochs timed after the first")
    parser.add_argument("--per-class", action="store_true", help="a set of vectors for each class")
    parser.add_argument("--own-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.own_process:
        row = measure(options.classes[0], options)
        print(json.dumps({name: round(value, 6) for name, value in row.items()}))
        return
    rest = [f"--batches={options.batches}", f"--rounds={options.rounds}", *["--per-class"] * options.per_class]
    for classes in options.classes:
        command = [sys.executable, __file__, f"--classes={classes}", *rest, "--own-process"]
        subprocess.run(command, check=True, env={**os.environ, **KEEP})


if __name__ == "__main__":
    main()
