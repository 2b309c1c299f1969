"""LoRAs for servers, which read less than PEFT does and say nothing: one rank, one scale, whole types of layers.

vLLM and SGLang pass over patterns of ranks and scales, SGLang and llama.cpp's converter over rank-stabilised scales;
LoRAX drops a type of layer that any layer lacks, and SGLang reads queries, keys and values together, as it does gates
and what they gate. So scales go into the factors, ranks are filled up with zeros, and so are layers that have nothing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn
from torch.nn import functional as F

from pitune.backbones import Backbone, same_weights
from pitune.errors import InputError
from pitune.experts.expert import Expert
from pitune.experts.gguf_format import ARCHITECTURES, write_gguf
from pitune.experts.kinds.lora_update import BIAS, DOWN, UP, LoraSettings, rank_in, scaling
from pitune.experts.peft_format import base_model, classes_of, export_peft
from pitune.files import check_free

_PACKED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
_LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_PHI = ("dense", "fc1", "fc2", "qkv_proj", "gate_up_proj")


def _write_peft(expert: Expert, folder: Path, backbone: Backbone) -> None:
    export_peft(expert, folder, backbone)


@dataclass(frozen=True)
class Server:
    """What a server reads of LoRAs, and the command that starts it.

    `models` are model types, `layers` the last names of layers, `ranks` what it can be told is the largest, rising;
    where there are none, any will do. With `whole` it needs every layer of a type.
    """

    command: str
    models: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    ranks: tuple[int, ...] = ()
    whole: bool = True
    write: Callable[[Expert, Path, Backbone], object] = _write_peft


SERVERS: Mapping[str, Server] = {
    "vllm": Server(
        "vllm serve {base} --enable-lora --max-lora-rank {rank} --lora-modules {name}={folder}",
        ranks=(8, 16, 32, 64, 128, 256, 320, 512),
    ),
    "sglang": Server(
        "python -m sglang.launch_server --model-path {base} --enable-lora --max-lora-rank {rank} "
        "--lora-target-modules {layers} --lora-paths {name}={folder}",
        layers=_LLAMA,
    ),
    "lorax": Server(
        "lorax-launcher --model-id {base}  # requests name the adapter_id {folder} and the adapter_source local",
        models=("cohere", "gemma", "gemma2", "granite", "llama", "mistral", "phi", "phi3", "qwen2"),
        layers=(*_LLAMA, *_PHI),
        ranks=(8, 16, 32, 64, 128),
    ),
    "gguf": Server(
        "llama-server --model BASE.gguf --lora {folder}/{name}.gguf",
        models=tuple(ARCHITECTURES),
        whole=False,
        write=write_gguf,
    ),
}


@dataclass(frozen=True)
class Served:
    """How a server is started with an expert: its command, and the rank that it must have room for."""

    command: str
    rank: int


def is_served(expert: Expert) -> bool:
    """Return whether an expert's layers have the names of language models', whose LoRAs servers read."""
    return expert.kind.exports and {site.rpartition(".")[2] for site in expert.sites} <= {*_LLAMA, *_PHI}


def export_for(expert: Expert, folder: str | Path, backbone: Backbone, server: str) -> Served:
    """Write a LoRA as a folder that a server of `SERVERS` reads whole; `folder` must be free.

    What is written is read back, and held against the expert, before it is there. Raise `InputError` naming what the
    server cannot express: another kind of expert, a model or a layer that it does not read, biases, too high a rank.
    """
    rules, folder = SERVERS[server], Path(folder)
    check_free(folder)
    _check(expert, backbone, server)
    sites = _whole(expert, backbone.module) if rules.whole else expert.sites
    plain = _plain(expert, backbone.module, sites)
    rank = plain.settings.r  # type: ignore[attr-defined]
    room = next((one for one in rules.ranks if one >= rank), rank)
    if rules.ranks and room > rules.ranks[-1]:
        raise InputError(
            f"expert {expert.name!r} has rank {rank}, and {server} takes at most {rules.ranks[-1]}; fold it to fewer "
            f"(pitune tune … --rank {rules.ranks[-1]})"
        )
    rules.write(plain, folder, backbone)
    base = base_model(expert.card, backbone)
    named = shlex.quote(base["base_model_name_or_path"])
    command = rules.command.format(
        base=f"{named} --revision {base['revision']}" if "revision" in base else named,
        rank=room,
        name=expert.name,
        folder=shlex.quote(str(folder.absolute())),
        layers=" ".join(_types(sites)),
    )
    return Served(command, rank)


def _check(expert: Expert, backbone: Backbone, server: str) -> None:
    """Raise `InputError` naming the first thing of an expert that a server does not read."""
    rules, module = SERVERS[server], backbone.module
    whole_model = "write a whole model instead (--merged, or merge_into)"
    if not same_weights(expert.card.backbone, backbone.fingerprint):
        raise InputError(f"expert {expert.name!r} belongs to another backbone ({expert.card.base_model})")
    if expert.kind.peft_type != "LORA":
        other = whole_model if expert.kind.merges else "it runs with pitune alone"
        raise InputError(f"{server} reads LoRAs alone; {expert.name!r} is of kind {expert.method!r}; {other}")
    config = getattr(module, "config", None)
    model_type = getattr(config, "model_type", type(module).__name__)
    reads = classes_of(module).get("task_type") == "CAUSAL_LM" and not hasattr(config, "vision_config")
    if not reads or (rules.models and model_type not in rules.models):
        known = f"; expected one of: {', '.join(sorted(rules.models))}" if rules.models else ""
        raise InputError(f"{server} reads LoRAs of language models; {backbone.name} is of type {model_type!r}{known}")
    for site in expert.sites:
        inside = re.search(r"\.\d+\.", site) and isinstance(module.get_submodule(site), nn.Linear)
        if not inside or (rules.layers and site.rpartition(".")[2] not in rules.layers):
            known = f": {', '.join(rules.layers)}" if rules.layers else ""
            raise InputError(
                f"{server} reads LoRAs of the linear layers in a model's blocks alone{known}; {expert.name!r} has one "
                f"at {site!r:.200}; {whole_model}"
            )
        if bool(expert.tensors.get(f"{site}{BIAS}", expert.tensors[f"{site}{UP}"][:0]).any()):
            raise InputError(f"{server} reads no biases; {expert.name!r} has one at {site!r:.200}; {whole_model}")


def _types(sites: Iterable[str]) -> tuple[str, ...]:
    """Return the last names of layers, each once."""
    return tuple(dict.fromkeys(site.rpartition(".")[2] for site in sites))


def _whole(expert: Expert, module: nn.Module) -> tuple[str, ...]:
    """Return every layer of the types that an expert reaches, and of those that servers read together with them."""
    types = set(_types(expert.sites))
    types |= {one for group in _PACKED if types & set(group) for one in group}
    named = module.named_modules()
    return tuple(path for path, layer in named if path.rpartition(".")[2] in types and isinstance(layer, nn.Linear))


def _plain(expert: Expert, module: nn.Module, sites: Iterable[str]) -> Expert:
    """Return the same LoRA with one rank and scale 1 at each of these layers, zeros where it had nothing."""
    rank = max(rank_in(expert.tensors, site) for site in expert.sites)
    tensors = {}
    for site in sites:
        weight = module.get_submodule(site).get_parameter("weight")
        down = expert.tensors.get(f"{site}{DOWN}", weight.new_zeros(0, weight.shape[1])).float()
        up = expert.tensors.get(f"{site}{UP}", weight.new_zeros(weight.shape[0], 0)).float()
        scale = scaling(expert.settings, site, len(down)) if len(down) else 1.0  # type: ignore[arg-type]
        tensors[f"{site}{DOWN}"] = F.pad(down, (0, 0, 0, rank - len(down))).cpu()
        tensors[f"{site}{UP}"] = F.pad(scale * up, (0, rank - len(down))).cpu()
    settings = LoraSettings(r=rank, lora_alpha=rank, target_modules=_types(sites))
    return replace(expert, settings=settings, tensors=tensors, fisher=None)
