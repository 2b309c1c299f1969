"""`pitune fit --shots 1` on thousands of classes: time and peak memory of the whole command.

    python benchmarks/many_classes.py [pocket] [clip] [text] [--classes 2000] [--steps 200] [--method lora]

`pocket` and `clip` read a folder of small images, three for each class, `text` is pocket on a table of sentences.
`clip` is a small dual encoder of random weights in the files of `transformers`. Each runs twice as a process of its
own, first with nothing in the cache, then with what the first kept of images, and prints wall and processor seconds and
the most memory at a time. Nothing is downloaded but pocket's weights, if they are not there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

SYLLABLES = [one + other for one in "bdfgklmnprstvz" for other in "aeiou"]
EACH = 3
COMMAND = "import sys; from pitune import cli; sys.exit(cli.main(sys.argv[1:]))"


def names(classes: int) -> list[str]:
    """Return so many names that can be spoken."""
    return ["".join(one) for one in itertools.islice(itertools.product(SYLLABLES, repeat=3), 0, 7 * classes, 7)]


def write_images(folder: Path, classes: int) -> Path:
    """Write three images of 32 pixels for each class: a pattern of its own under noise."""
    noise = np.random.default_rng(0)
    for name in names(classes):
        pattern = noise.integers(0, 200, (4, 4, 3)).repeat(8, 0).repeat(8, 1)
        (folder / name).mkdir(parents=True)
        for i in range(EACH):
            pixels = (pattern + noise.integers(0, 56, pattern.shape)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


def write_table(path: Path, classes: int) -> Path:
    """Write three sentences for each class."""
    said = ("look at the {}", "we found one {} here", "there is no other {}")
    path.write_text(
        "\n".join(["text,label", *(f"{one.format(name)},{name}" for name in names(classes) for one in said)])
    )
    return path


def write_clip(folder: Path) -> Path:
    """Write a dual encoder of four layers and random weights as `transformers` keeps it."""
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    folder.mkdir(parents=True)
    letters = [chr(i) for i in range(33, 127)]
    words = {
        word: i
        for i, word in enumerate([*letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", "<|endoftext|>"])
    }
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    ends = {
        "eos_token_id": words["<|endoftext|>"],
        "bos_token_id": words["<|startoftext|>"],
        "pad_token_id": words["<|endoftext|>"],
    }
    shape = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4}
    text = {**shape, **ends, "vocab_size": len(words), "max_position_embeddings": 77}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=text, vision_config={**shape, "image_size": 64, "patch_size": 16}, projection_dim=64
    )
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def measure(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Return what a command took: wall and processor seconds, and the most memory in GiB."""
    started = time.perf_counter()
    process = os.posix_spawn(command[0], command, environment)
    _, status, used = os.wait4(process, 0)
    if status:
        sys.exit(f"{' '.join(command)}: ended with {os.waitstatus_to_exitcode(status)}")
    wall = time.perf_counter() - started
    return {"wall_s": wall, "cpu_s": used.ru_utime + used.ru_stime, "peak_gib": used.ru_maxrss / 2**20}


def main() -> None:
    """Measure each set named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", choices=("pocket", "clip", "text", []))
    parser.add_argument("--classes", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--method", default="lora")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="pitune-many-"))
    try:
        for name in options.sets or ("pocket", "clip", "text"):
            task = folder / ("t.csv" if name == "text" else "images")
            if not task.exists():
                write_table(task, options.classes) if name == "text" else write_images(task, options.classes)
            backbone = str(write_clip(folder / "clip")) if name == "clip" else "pocket"
            home = {**os.environ, "PITUNE_HOME": str(folder / f"home-{name}")}
            (folder / f"home-{name}").mkdir()
            known = Path(os.environ.get("PITUNE_HOME") or Path.home() / ".cache" / "pitune") / "archives"
            if known.is_dir():  # pocket's weights, if they are there
                (folder / f"home-{name}" / "archives").symlink_to(known)
            fit = [sys.executable, "-c", COMMAND, "fit", str(task), "--shots", "1", "--steps", str(options.steps)]
            fit += ["--backbone", backbone, "--method", options.method]
            for seed in ("0", "1"):
                out = ["--out", str(folder / f"{name}-{seed}"), "--seed", seed]
                found = measure([*fit, *out], home)
                print(json.dumps({"set": name, "classes": options.classes, "cache": seed == "1", **found}), flush=True)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
