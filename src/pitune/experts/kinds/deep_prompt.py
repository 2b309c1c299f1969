"""Deep prompts (P-tuning v2, arXiv 2110.07602; VPT-deep): new vectors before every layer replace those of the last."""

from __future__ import annotations

from pitune.experts.kinds.prompt import Prompt


class DeepPrompt(Prompt):
    """Vectors (length, width) in front of every layer of each stack."""

    name = "deep_prompt"
    deep = True


DEEP_PROMPT = DeepPrompt()
