"""LoRA layers with fewer passes over memory: the same sums as PEFT's, added where they are computed.

PEFT computes x W' + scale (x A') B' as separate tensors, and so does its backward pass. Here the small
products are added into the result of the large one, and the gradients are written out. Only plain layers
qualify: what PEFT knows beyond them (DoRA, dropout, quantised weights) stays PEFT's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import Linear

ADAPTER = "default"


@contextmanager
def fused(model: torch.nn.Module) -> Iterator[None]:
    """Within, the plain LoRA layers of a PEFT model run fused."""
    layers = [layer for layer in model.modules() if _is_plain(layer)]
    try:
        for layer in layers:
            layer.forward = partial(_forward, layer)
        yield
    finally:
        for layer in layers:
            del layer.forward


def _is_plain(layer: Any) -> bool:
    return (
        type(layer) is Linear
        and type(layer.base_layer) is torch.nn.Linear
        and not layer.fan_in_fan_out
        and list(layer.lora_A) == [ADAPTER]
        and not layer.lora_variant
        and isinstance(layer.lora_dropout[ADAPTER], torch.nn.Identity)
        and layer.lora_A[ADAPTER].bias is None
        and layer.lora_B[ADAPTER].bias is None
        and layer.base_layer.weight.is_floating_point()
    )


def _forward(layer: Any, x: torch.Tensor) -> torch.Tensor:
    base, down, up = layer.base_layer, layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
    if layer.disable_adapters or layer.merged:
        found: torch.Tensor = Linear.forward(layer, x)
        return found
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    out: torch.Tensor = _Product.apply(  # type: ignore[no-untyped-call]
        x.to(dtype), base.weight, base.bias, down, up, layer.scaling[ADAPTER], dtype
    )
    return out


class _Product(torch.autograd.Function):
    """y = x W' + b + scale (x A') B', in `dtype`; W and b are frozen.

    With g the gradient of y and u = g B: dA = scale u' x; dB = scale g' (x A'); dx = g W + scale u A.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        with torch.autocast(x.device.type, enabled=False):
            w, a, b = weight.to(dtype), down.to(dtype), up.to(dtype)
            rows = x.reshape(-1, x.shape[-1])
            inner = rows @ a.t()
            out = rows @ w.t() if bias is None else torch.addmm(bias.to(dtype), rows, w.t())
            out.addmm_(inner, b.t(), alpha=scale)
        ctx.save_for_backward(rows, inner, w, a, b)
        ctx.scale, ctx.shape, ctx.stored = scale, x.shape, (down.dtype, up.dtype)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, inner, w, a, b = ctx.saved_tensors
        g = grad.reshape(-1, grad.shape[-1])
        with torch.autocast(g.device.type, enabled=False):
            u = g @ b
            d_down = (u.t() @ rows).to(ctx.stored[0]).mul_(ctx.scale)
            d_up = (g.t() @ inner).to(ctx.stored[1]).mul_(ctx.scale)
            d_x = None
            if ctx.needs_input_grad[0]:
                d_x = (g @ w).addmm_(u, a, alpha=ctx.scale).view(ctx.shape)
        return d_x, None, None, d_down, d_up, None, None
