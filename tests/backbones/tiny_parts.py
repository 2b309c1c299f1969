"""What tiny checkpoints are made of: few words, and towers of two narrow layers."""

from __future__ import annotations

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

WORDS = [
    "a",
    "photo",
    "of",
    "the",
    "red",
    "green",
    "blue",
    "good",
    "bad",
    "sea",
    "hill",
    "town",
    "happy",
    "sad",
    "sweet",
    "fresh",
    "warm",
    "sour",
    "stale",
    "cold",
    "smile",
    "tear",
    "wave",
    "sand",
    "salt",
    "rock",
    "path",
    "peak",
    "road",
    "shop",
    "tram",
    "what",
    "colour",
    "is",
    "it",
    "question",
    "answer",
    "no",
    "yes",
    "User",
    "Assistant",
    ":",
    ".",
    "?",
]
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
WIDTH = 16


def tokenizer(extra: tuple[str, ...] = (), start: bool = True, length: int = 64) -> PreTrainedTokenizerFast:
    words = [*SPECIAL, *extra, *WORDS]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    template = "<s> $A </s>" if start else "$A </s>"
    made.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(extra),
        model_max_length=length,
    )


def tower(**more: object) -> dict[str, object]:
    return {
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        **more,
    }
