"""An expert's answers in llama.cpp beside those of PEFT on the same weights: `python benchmarks/gguf_serving.py`.

A LoRA of the packaged language model is trained on few labels, exported as a GGUF and as PEFT's folder, and both write
greedily on test inputs. llama.cpp computes with the package's four-bit weights, PEFT with what they unpack to.

equal       inputs whose written tokens are all the same with the expert
changed     inputs that the expert makes PEFT write otherwise about

llama.cpp is `pip install llama-cpp-python`; without it, the file is held against the base model's by the rules that
llama.cpp loads it by (same architecture; each pair of factors beside a tensor of its name and shape), with the `gguf`
package alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch
from peft import PeftModel

from pitune import fit, load_backbone, load_task
from pitune.archives import fetch
from pitune.experts import export_for, export_peft
from pitune.smollm2 import ARCHIVE, MEMBER, NAME
from pitune.training import TrainingSettings


@torch.no_grad()
def written_by_peft(model: Any, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """Return the tokens that a model of transformers writes greedily behind each prompt."""
    made = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, num_beams=1, max_new_tokens=tokens
        )
        made.append(out[0, len(prompt) :].tolist())
    return made


def written_by_llama_cpp(model: Path, lora: Path, prompts: list[list[int]], tokens: int, end: int) -> list[list[int]]:
    """Return the tokens that llama.cpp writes greedily behind each prompt, the end with them."""
    from llama_cpp import Llama

    llama = Llama(str(model), lora_path=str(lora), n_ctx=2048, n_threads=1, verbose=False)
    made = []
    for prompt in prompts:
        row: list[int] = []
        llama.reset()
        for token in llama.generate(prompt, temp=0.0, repeat_penalty=1.0):
            row.append(int(token))
            if token == end or len(row) == tokens:
                break
        made.append(row)
    return made


def fitting_pairs(base: Path, lora: Path) -> int:
    """Return how many tensors of a base model have factors that fit them; raise `AssertionError` where one does not."""
    import gguf

    files = [gguf.GGUFReader(path) for path in (base, lora)]
    architectures = {file.fields["general.architecture"].contents() for file in files}
    assert len(architectures) == 1, architectures
    whole, factors = ({one.name: one.shape.tolist() for one in file.tensors} for file in files)
    names = {name.rpartition(".lora_")[0] for name in factors}
    for name in names:
        down, up = factors[f"{name}.lora_a"], factors[f"{name}.lora_b"]  # llama.cpp's shapes, the last dimension first
        assert [down[0], up[1]] == whole[name], name
        assert down[1] == up[0], name
    return len(names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="pocket/tweets")
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=12)
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()

    backbone: Any = load_backbone(NAME, "cpu")
    task = load_task(asked.task)
    expert = fit(
        backbone, task, shots=4, folds=0, progress=True, r=4, settings=TrainingSettings(steps=asked.steps, batch_size=8)
    )
    examples = task.examples("test")[: asked.prompts]
    prompts = [backbone.prepare([one], task).inputs["input_ids"][0].tolist() for one in examples]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export_for(expert, folder / "gguf", backbone, "gguf")
        lora = next((folder / "gguf").glob("*.gguf"))
        base = Path(ZipFile(fetch(ARCHIVE)).extract(MEMBER, folder))
        print(f"the factors fit {fitting_pairs(base, lora)} tensors of the base model")
        try:
            import llama_cpp
        except ModuleNotFoundError:
            print("llama-cpp-python is not installed: the file is read, and not run")
            return
        export_peft(expert, folder / "peft", backbone)
        bare = written_by_peft(backbone.module, prompts, asked.tokens)
        theirs = written_by_llama_cpp(base, lora, prompts, asked.tokens, backbone.module.config.eos_token_id)
        peft = written_by_peft(PeftModel.from_pretrained(backbone.module, folder / "peft"), prompts, asked.tokens)
    equal = sum(one == other for one, other in zip(theirs, peft, strict=True))
    changed = sum(one != other for one, other in zip(bare, peft, strict=True))
    print(json.dumps({"equal": equal, "changed": changed, "of": len(prompts), "llama_cpp": llama_cpp.__version__}))


if __name__ == "__main__":
    main()
