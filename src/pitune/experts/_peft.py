"""What the kinds of expert that go through PEFT share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import nn


def peft_json(config: Any) -> dict[str, Any]:
    """Return a PEFT configuration as what `adapter_config.json` holds."""
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    values: dict[str, Any] = json.loads(json.dumps(plain, default=str))
    return values


def restore(module: nn.Module, layers: Mapping[str, Any]) -> None:
    """Put the layers that PEFT wrapped back into their places."""
    for name, layer in layers.items():
        module.set_submodule(name, layer.get_base_layer())
    if hasattr(module, "peft_config"):
        del module.peft_config
