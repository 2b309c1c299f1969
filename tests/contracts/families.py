"""Tiny models of each family behind the Backbone contract, with random weights and inputs: proofs, not products."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel, T5Config, T5ForConditionalGeneration

from pitune.backbones import Batch, masked_log_softmax
from pitune.errors import InputError
from pitune.files import sha256_bytes
from pitune.tasks import Example, Task

WIDTH, LAYERS, EXAMPLES = 16, 2, 6
VOCABULARY, SOS, EOS = 64, 62, 63


@dataclass(eq=False)
class Tiny:
    """A backbone whose scores are computed by one function of its module and a batch."""

    name: str
    module: Any  # whose parts are of the model's own classes
    places: Mapping[str, tuple[str, ...]]
    compute: Callable[[Any, Batch], Tensor]
    batch: Batch
    width: int = WIDTH
    vectorises: bool = True

    def __post_init__(self) -> None:
        self.fingerprint = sha256_bytes(f"contracts {self.name}".encode())

    @property
    def device(self) -> torch.device:
        first: Tensor = next(self.module.parameters())
        return first.device

    def prepare(self, examples: Sequence[Example], task: Task) -> Batch:
        return self.batch

    def scores(self, batch: Batch, candidates: Sequence[str] | None = None) -> Tensor:
        return masked_log_softmax(self.compute(self.module, batch), batch.allowed)

    def losses(self, batch: Batch) -> Tensor:
        return -self.scores(batch).gather(1, batch.target[:, None]).squeeze(1)

    def features(self, batch: Batch) -> Tensor:
        return self.scores(batch)

    def generate(self, batch: Batch) -> list[str]:
        raise InputError(f"{self.name} writes no text")

    def sites(self, role: str) -> tuple[str, ...]:
        return self.places.get(role, ())


def bert(attention: str = "sdpa") -> Tiny:
    """A BERT-like encoder; padded texts are matched to answer vectors by their mean."""
    model = BertModel(
        BertConfig(  # type: ignore[call-arg]
            vocab_size=VOCABULARY,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=2,
            intermediate_size=2 * WIDTH,
            max_position_embeddings=32,
            initializer_range=0.3,
            attn_implementation=attention,
        ),
        add_pooling_layer=False,
    )
    inputs = {"input_ids": torch.randint(0, 60, (EXAMPLES, 9)), "mask": torch.ones(EXAMPLES, 9, dtype=torch.long)}
    inputs["mask"][::2, 6:] = 0

    def compute(module: Any, batch: Batch) -> Tensor:
        mask = batch.inputs["mask"]
        hidden = module(input_ids=batch.inputs["input_ids"], attention_mask=mask).last_hidden_state
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return mean @ batch.answers.to(mean.dtype).T

    layers = tuple(f"encoder.layer.{i}" for i in range(LAYERS))
    below = tuple(f"{layer}.output.dense" for layer in layers)
    places = {
        "attention": tuple(f"{layer}.attention.self.{part}" for layer in layers for part in ("query", "value")),
        "outputs": tuple(f"{layer}.{part}.dense" for layer in layers for part in ("attention.output", "output")),
        "keys_values": tuple(f"{layer}.attention.self.{part}" for layer in layers for part in ("key", "value")),
        "feedforward_output": below,
        "attention_modules": tuple(f"{layer}.attention.self" for layer in layers),
        "layers": layers,
        **_tuned(model, "encoder"),
    }
    return _tiny("bert", model, places, compute, inputs, torch.randn(3, WIDTH))


def t5(attention: str = "sdpa") -> Tiny:
    """An encoder-decoder; answers are scored by the likelihood of their tokens."""
    model = T5ForConditionalGeneration(
        T5Config(  # type: ignore[call-arg]
            vocab_size=VOCABULARY,
            d_model=WIDTH,
            d_kv=8,
            d_ff=2 * WIDTH,
            num_layers=LAYERS,
            num_heads=2,
            decoder_start_token_id=0,
            initializer_factor=1.5,
            attn_implementation=attention,
        )
    )
    inputs = {"input_ids": torch.randint(1, 60, (EXAMPLES, 7)), "mask": torch.ones(EXAMPLES, 7, dtype=torch.long)}
    inputs["mask"][1::2, 5:] = 0

    def compute(module: Any, batch: Batch) -> Tensor:
        found = []
        for answer in batch.answers:
            labels = answer.expand(len(batch.inputs["input_ids"]), -1)
            start = torch.cat([torch.zeros_like(labels[:, :1]), labels[:, :-1]], 1)
            logits = module(
                input_ids=batch.inputs["input_ids"],
                attention_mask=batch.inputs["mask"],
                decoder_input_ids=start,
                use_cache=False,
            ).logits
            found.append(logits.log_softmax(-1).gather(2, labels[..., None]).sum((1, 2)))
        return torch.stack(found, 1)

    encoder = tuple(f"encoder.block.{i}" for i in range(LAYERS))
    decoder = tuple(f"decoder.block.{i}" for i in range(LAYERS))
    attentions = tuple(f"{block}.layer.0.SelfAttention" for block in (*encoder, *decoder))
    below = (
        *(f"{block}.layer.1.DenseReluDense.wo" for block in encoder),
        *(f"{block}.layer.2.DenseReluDense.wo" for block in decoder),
    )
    places = {
        "attention": tuple(f"{attention}.{part}" for attention in attentions for part in ("q", "v")),
        "outputs": (*(f"{attention}.o" for attention in attentions), *below),
        "keys_values": tuple(f"{attention}.{part}" for attention in attentions for part in ("k", "v")),
        "feedforward_output": below,
        "attention_modules": attentions,
        "layers": encoder,
        "norms": tuple(name for name, module in model.named_modules() if type(module).__name__ == "T5LayerNorm"),
    }
    return _tiny("t5", model, places, compute, inputs, torch.randint(1, 60, (3, 4)))


def clip(attention: str = "sdpa") -> Tiny:
    """A dual encoder; answers are token ids, read by the text tower at every call."""
    tower = {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
    }
    model = CLIPModel(
        CLIPConfig(  # type: ignore[call-arg]
            text_config={
                **tower,
                "vocab_size": VOCABULARY,
                "max_position_embeddings": 28,
                "bos_token_id": SOS,
                "eos_token_id": EOS,
                "pad_token_id": 0,
            },
            vision_config={**tower, "image_size": 16, "patch_size": 8},
            projection_dim=WIDTH,
            initializer_factor=4.0,
            attn_implementation=attention,
        )
    )
    answers = torch.tensor([[SOS, 5, 9, EOS, 0, 0], [SOS, 6, 7, 9, EOS, 0], [SOS, 8, 4, 3, 9, EOS]])

    def compute(module: Any, batch: Batch) -> Tensor:
        text = module.text_projection(module.text_model(input_ids=batch.answers).pooler_output)
        image = module.visual_projection(module.vision_model(batch.inputs["pixels"]).pooler_output)
        return 8.0 * nn.functional.normalize(image, dim=-1) @ nn.functional.normalize(text, dim=-1).T

    words = ("text_model", "text_model.embeddings.token_embedding")
    vision = tuple(f"vision_model.encoder.layers.{i}" for i in range(LAYERS))
    layers = (*(f"text_model.encoder.layers.{i}" for i in range(LAYERS)), *vision)
    below = tuple(f"{layer}.mlp.fc2" for layer in layers)
    places = {
        "attention": tuple(f"{layer}.self_attn.{part}" for layer in layers for part in ("q_proj", "v_proj")),
        "outputs": tuple(f"{layer}.{part}" for layer in layers for part in ("self_attn.out_proj", "mlp.fc2")),
        "keys_values": tuple(f"{layer}.self_attn.{part}" for layer in layers for part in ("k_proj", "v_proj")),
        "feedforward_output": below,
        "attention_modules": tuple(f"{layer}.self_attn" for layer in layers),
        "layers": layers,
        "words": words,
        "picture_layers": vision,
        **_tuned(model, ""),
    }
    return _tiny("clip", model, places, compute, {"pixels": torch.randn(EXAMPLES, 3, 16, 16)}, answers)


def _tuned(model: nn.Module, under: str) -> dict[str, tuple[str, ...]]:
    inside = [(name, module) for name, module in model.named_modules() if name.startswith(under)]
    linear = nn.Linear | nn.LayerNorm
    return {
        "biased": tuple(name for name, module in inside if isinstance(module, linear) and module.bias is not None),
        "norms": tuple(name for name, module in inside if isinstance(module, nn.LayerNorm)),
    }


def _tiny(
    name: str,
    model: nn.Module,
    places: Mapping[str, tuple[str, ...]],
    compute: Callable[[Any, Batch], Tensor],
    inputs: Mapping[str, Tensor],
    answers: Tensor,
) -> Tiny:
    target = torch.arange(EXAMPLES) % len(answers)
    batch = Batch(tuple(str(i) for i in range(EXAMPLES)), inputs, answers, target)
    return Tiny(name, model.eval().requires_grad_(False), places, compute, batch)


FAMILIES: Mapping[str, Callable[..., Tiny]] = {"bert": bert, "t5": t5, "clip": clip}


def build(name: str, attention: str = "sdpa") -> Tiny:
    """Return the family's backbone with the same random weights and inputs each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return FAMILIES[name](attention)
