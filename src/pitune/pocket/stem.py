"""EfficientNet-Lite0, the frozen vision stem of the pocket backbone (arXiv 1905.11946; inference only).

Module names follow the published checkpoint, so its state dict loads without renaming.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

_OUTER = (("_conv_stem", "_bn0"), ("_conv_head", "_bn1"))
_INNER = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
WIDTH = 1280
CLASSES = 1000

# repeats, kernel, stride, expansion, input width, output width
_STAGES = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


class _SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: what is odd goes to the right and the bottom."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        height, width = input.shape[-2:]
        kernel, stride = self.kernel_size[0], self.stride[0]
        down = max((-(-height // stride) - 1) * stride + kernel - height, 0)
        across = max((-(-width // stride) - 1) * stride + kernel - width, 0)
        if down % 2 or across % 2:
            input = F.pad(input, (across // 2, across - across // 2, down // 2, down - down // 2))
            return F.conv2d(input, self.weight, self.bias, stride, groups=self.groups)
        return F.conv2d(input, self.weight, self.bias, stride, (down // 2, across // 2), groups=self.groups)


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)


class _Block(nn.Module):
    """An inverted bottleneck without squeeze-and-excitation."""

    def __init__(self, kernel: int, stride: int, expansion: int, inputs: int, outputs: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.expands = expansion != 1
        if self.expands:
            self._expand_conv = _SameConv(inputs, wide, 1)
            self._bn0 = _norm(wide)
        self._depthwise_conv = _SameConv(wide, wide, kernel, stride, groups=wide)
        self._bn1 = _norm(wide)
        self._project_conv = _SameConv(wide, outputs, 1)
        self._bn2 = _norm(outputs)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        wide = F.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        wide = F.relu6(self._bn1(self._depthwise_conv(wide)), inplace=True)
        y: Tensor = self._bn2(self._project_conv(wide))
        return x + y if self.skips else y


class Stem(nn.Module):
    """Images to a grid of tokens, and tokens to ImageNet logits."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, 32, 3, 2)
        self._bn0 = _norm(32)
        blocks = []
        for repeats, kernel, stride, expansion, inputs, outputs in _STAGES:
            blocks.append(_Block(kernel, stride, expansion, inputs, outputs))
            blocks += [_Block(kernel, 1, expansion, outputs, outputs) for _ in range(repeats - 1)]
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = _SameConv(320, WIDTH, 1)
        self._bn1 = _norm(WIDTH)
        self._fc = nn.Linear(WIDTH, CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        """Turn pixels (B, 3, S, S), scaled `(value - 127) / 128`, into tokens (B, (S/32)², 1280)."""
        x = F.relu6(self._bn0(self._conv_stem(pixels)), inplace=True)
        for block in self._blocks:
            x = block(x)
        grid: Tensor = F.relu6(self._bn1(self._conv_head(x)), inplace=True)
        return grid.flatten(2).transpose(1, 2)

    def class_logits(self, tokens: Tensor) -> Tensor:
        """Turn tokens (B, N, 1280) into ImageNet-1k logits (B, 1000)."""
        logits: Tensor = self._fc(tokens.mean(1))
        return logits

    @torch.no_grad()
    def freeze(self) -> Stem:
        """Put the stem in evaluation mode for good and return it, each norm folded into its convolution."""
        self.eval().requires_grad_(False)
        for part, pairs in ((self, _OUTER), *((block, _INNER) for block in self._blocks)):
            for convolution, norm in pairs:
                if hasattr(part, convolution):
                    folded = fuse_conv_bn_eval(getattr(part, convolution), getattr(part, norm))
                    setattr(part, convolution, folded)
                    setattr(part, norm, nn.Identity())
        return self.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
