"""The frozen stem: what it sees is what the published network sees, at any size, whichever way it is laid out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pitune.pocket.stem import Stem


def published(stem: Any, pixels: Tensor) -> Tensor:
    """Return the grid (B, 1280, h, w) as the published code has it: pad as TensorFlow's SAME, convolve, norm, relu6."""

    def block(x: Tensor, convolution: Any, norm: Any, active: bool) -> Tensor:
        side, kernel, stride = x.shape[-1], convolution.kernel_size[0], convolution.stride[0]
        pad = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        x = F.pad(x, (pad // 2, pad - pad // 2) * 2)
        x = F.conv2d(x, convolution.weight, stride=stride, groups=convolution.groups)
        x = (x - norm.running_mean[:, None, None]) / (norm.running_var[:, None, None] + norm.eps).sqrt()
        x = x * norm.weight[:, None, None] + norm.bias[:, None, None]
        return F.relu6(x) if active else x

    x = block(pixels, stem._conv_stem, stem._bn0, True)
    for one in stem._blocks:
        y = block(x, one._expand_conv, one._bn0, True) if one.expands else x
        y = block(block(y, one._depthwise_conv, one._bn1, True), one._project_conv, one._bn2, False)
        x = x + y if one.skips else y
    return block(x, stem._conv_head, stem._bn1, True)


@pytest.mark.parametrize("side", [64, 75])
@torch.no_grad()
def test_folded_norms_change_nothing(side: int) -> None:
    torch.manual_seed(0)
    stem = Stem().double()
    for layer in stem.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if isinstance(layer, nn.BatchNorm2d):
            for values, mean in ((layer.weight, 1.0), (layer.bias, 0.0), (layer.running_mean, 0.0)):
                assert values is not None
                values.normal_(mean, 0.1)
            assert layer.running_var is not None
            layer.running_var.uniform_(0.5, 1.5)
    pixels = torch.randn(3, 3, side, side, dtype=torch.float64)
    expected = published(stem, pixels).flatten(2).transpose(1, 2)
    assert float(expected.std()) > 0.1
    frozen = stem.freeze()
    found = frozen(pixels)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(frozen(pixels[:1]), found[:1], rtol=1e-9, atol=1e-9)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in frozen.modules())
