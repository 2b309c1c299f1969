"""Step time and peak memory at the papers' shapes, with random weights: nothing is downloaded.

    python benchmarks/real_shapes.py [clip] [t5] [florence] [--method lora] [--classes 100] [--steps 3] [--image 768]

For CLIP (ViT-B/16) one step is a batch of 32 cached or fresh images against all class texts; for T5-base it is a batch
of 8 and for Florence-2-base of one (`--image 384` where 768 pixels are too slow). The cost of ranking 13 answers is
given as a multiple of one forward of the input, in time and in floating-point operations. Each model runs in a process
of its own, which keeps the memory it is given, so that peak memory is its own.
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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from pitune.backbones import Backbone
from pitune.backbones.dual_encoder import DualEncoder
from pitune.backbones.seq2seq import Seq2Seq
from pitune.experts import KINDS, attached, initial_tensors, make_settings
from pitune.tasks import Example, Task

MODELS = ("clip", "t5", "florence")
BATCHES = {"clip": 32, "t5": 8, "florence": 1}
ANSWERS = 13
KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_TOP_PAD_": "268435456"}
NAMES = {"short": "kind {}", "long": "class number {} of a long list", "long, apart": "{} is one of a long list"}


class Words:
    """A tokenizer that makes one token of every word, so that no vocabulary is needed."""

    pad_token_id, bos_token_id, eos_token_id = 0, 1, 2
    chat_template = None

    def __init__(self, marked: bool) -> None:
        self._marked = marked

    def __call__(self, texts: Sequence[str], **options: Any) -> dict[str, Any]:
        rows = [[3 + hash(word) % 9000 for word in text.split()] + [self.eos_token_id] for text in texts]
        rows = [[1, *row] if self._marked else row for row in rows]
        return self.pad({"input_ids": rows}) if options.get("return_tensors") else {"input_ids": rows}

    def pad(self, encoded: dict[str, list[list[int]]], **_: Any) -> dict[str, torch.Tensor]:
        rows = encoded["input_ids"]
        length = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (length - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": mask}


def build(model: str, device: torch.device, side: int = 768) -> Backbone:
    """Return a model of the papers' shape with random weights; Florence-2 sees images of `side` pixels."""
    import transformers as t

    torch.manual_seed(0)
    if model == "clip":
        vision = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
        text = {"eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}
        clip = t.CLIPModel(t.CLIPConfig(vision_config={**vision, "patch_size": 16}, text_config=text)).to(device)
        return DualEncoder(clip, Words(True), t.CLIPImageProcessorPil(), model, model)
    if model == "t5":
        base = t.T5Config(d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12, decoder_start_token_id=0)
        return Seq2Seq(t.T5ForConditionalGeneration(base).to(device), Words(False), None, model, model)
    text = {"vocab_size": 51289, "d_model": 768, "encoder_layers": 6, "decoder_layers": 6, "decoder_start_token_id": 2}
    florence = t.Florence2Config(text_config=text, vision_config={"projection_dim": 768}, image_token_id=51288)
    processor = t.CLIPImageProcessorPil(size={"height": side, "width": side}, do_center_crop=False)
    made = t.Florence2ForConditionalGeneration(florence).to(device)
    return Seq2Seq(made, Words(True), processor, model, model)


def task_of(model: str, classes: int, batch: int, length: str = "long") -> Task:
    """Return a task of random inputs, with short or long names of its answers."""
    names = tuple(NAMES[length].format(i) for i in range(classes))
    noise = np.random.default_rng(0)
    examples = []
    for i in range(batch):
        path = Path(tempfile.gettempdir()) / f"pitune-bench-{i}.png"
        if model != "t5" and not path.exists():
            Image.fromarray(noise.integers(0, 256, (224, 224, 3), np.uint8)).save(path)
        text = None if model == "clip" else " ".join(f"word{j}" for j in range(128 if model == "t5" else 12))
        examples.append(Example(str(i), names[i % classes], text=text, image=None if model == "t5" else path))
    return Task("bench", {"train": examples}, answers=names)


def seconds(run: Callable[[], object], times: int, device: torch.device) -> float:
    """Return the least time of a call, after one that warms up: the processor's, so that others there matter less."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    run()
    found = []
    for _ in range(times):
        started = clock()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(clock() - started)
    return min(found)


def peak(device: torch.device) -> float:
    """Return the most memory used so far, in GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one model."""
    device = torch.device(options.device)
    backbone = build(model, device, options.image)
    task = task_of(model, options.classes if model == "clip" else ANSWERS, BATCHES[model])
    examples = task.examples("train")
    base = peak(device)
    row: dict[str, Any] = {"model": model, "method": options.method, "batch": BATCHES[model]}
    method = KINDS.get(options.method)
    changes: dict[str, Any] = {}
    if model == "clip" and options.text:
        changes["target_modules"] = [f"text_model.encoder.layers.{i}.self_attn.q_proj" for i in range(12)]
        row["tower"], row["classes"] = "text", options.classes
    with attached(backbone, method, make_settings(method, backbone, **changes)) as place:
        tensors = {name: value.to(device) for name, value in initial_tensors(method, place.shapes, 0).items()}
        leaves = {name: value.requires_grad_() for name, value in tensors.items()}
        batch = backbone.prepare(examples, task)
        row["step_s"] = round(seconds(lambda: place.losses(leaves, batch).mean().backward(), options.steps, device), 3)
    told(model, "step", row["step_s"])
    row["gib_above_model"] = round(peak(device) - base, 2)
    if model != "clip":
        with torch.no_grad():
            row["ranking"] = {length: ranking(backbone, model, length, options, device) for length in NAMES}
    return row


def ranking(
    backbone: Backbone, model: str, length: str, options: argparse.Namespace, device: torch.device
) -> dict[str, Any]:
    """Return what ranking 13 answers costs, as a multiple of reading the input once."""
    task = task_of(model, ANSWERS, BATCHES[model], length)
    batch = backbone.prepare(task.examples("train"), task)
    read = seconds(lambda: backbone._read(batch.inputs), options.steps, device)  # type: ignore[attr-defined]
    rank = seconds(lambda: backbone.scores(batch), options.steps, device)
    found = {"answer_tokens": batch.answers.shape[1], "read_s": round(read, 3), "rank_s": round(rank, 3)}
    with FlopCounterMode(display=False) as reading:
        backbone._read(batch.inputs)  # type: ignore[attr-defined]
    with FlopCounterMode(display=False) as all_:
        backbone.scores(batch)
    operations = all_.get_total_flops() / reading.get_total_flops()
    found |= {"rank_per_read": round(rank / read, 2), "operations_per_read": round(operations, 2)}
    told(model, f"ranking {length} answers", found)
    return found


def told(model: str, part: str, found: object) -> None:
    """Say what a part came to as soon as it is known."""
    print(f"{model}: {part}: {found}", file=sys.stderr, flush=True)


def main() -> None:
    """Measure each model in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    parser.add_argument("--method", default="lora")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--image", type=int, default=768, help="pixels of a side, for Florence-2; 768 is its own")
    parser.add_argument("--text", action="store_true", help="train CLIP's text tower instead of its image tower")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--own-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.own_process:
        print(json.dumps(measure(options.models[0], options)))
        return
    for model in options.models:
        rest = [one for one in sys.argv[1:] if one not in MODELS]
        subprocess.run(
            [sys.executable, __file__, model, *rest, "--own-process"], check=True, env={**os.environ, **KEEP}
        )


if __name__ == "__main__":
    main()
