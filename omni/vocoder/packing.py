"""Convolutions of short stretches by oneDNN, with weights that are laid out once.

torch gives a convolution in float32 on a CPU to oneDNN too, but lays out weights and signal for it
anew at each call: over the few places of a chunk that takes longer than the sums. Here the weights
are laid out once. The signal is [B, C, T] as everywhere, with the channels of a place side by side
in memory; the results are as well, so that a chain of layers never lays it out again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from omni.products import in_plain_inference, one_dnn_is_quicker
from omni.vocoder.made_once import Derived


class PackedWeight(Derived[Tensor]):
    """Keeps the weight of one convolution; it takes as much memory as the layer's own."""

    def convolved(self, layer: nn.Conv1d, x: Tensor) -> Tensor:
        """[B, C, n] -> [B, C', n - dilation * (kernel - 1)]: `layer` without padding."""
        step = [1, layer.dilation[0]]
        packed = self.kept(
            [layer.weight],
            lambda: torch.ops.aten.mkldnn_reorder_conv2d_weight(
                layer.weight[:, :, None].to_mkldnn(), [0, 0], [1, 1], step, 1
            ),
        )
        return torch.ops.mkldnn._convolution_pointwise(
            _as_image(x), packed, layer.bias, [0, 0], [1, 1], step, 1, "none", [], ""
        )[:, :, 0]

    def transposed(self, layer: nn.ConvTranspose1d, x: Tensor) -> Tensor:
        """[B, C, n] -> [B, C', (n - 1) * stride + kernel]: `layer` without padding."""
        stride = [1, layer.stride[0]]
        packed = self.kept(
            [layer.weight],
            lambda: torch.ops.mkldnn._reorder_convolution_transpose_weight(
                layer.weight[:, :, None], [0, 0], [0, 0], stride, [1, 1], 1, None
            ),
        )
        return torch.ops.mkldnn._convolution_transpose_pointwise(
            _as_image(x), packed, layer.bias, [0, 0], [0, 0], stride, [1, 1], 1, "none", [], ""
        )[:, :, 0]


def can_be_packed(x: Tensor, weight: Tensor) -> bool:
    """Whether a convolution is made here: in inference mode, in float32, on a CPU where oneDNN was
    found to be the quicker library.

    Weights that inference mode made are left to torch, for their changes are not counted.
    """
    return in_plain_inference(x, weight) and not weight.is_inference() and one_dnn_is_quicker()


def _as_image(x: Tensor) -> Tensor:
    """[B, C, T] -> [B, C, 1, T], the channels of a place side by side in memory."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)[:, :, None]
