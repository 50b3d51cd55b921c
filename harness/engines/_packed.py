"""Linear layers of a CPU model in bfloat16, with weights also kept as its matrix kernel reads them.

oneDNN rearranges a weight for every product. With few rows, as when tokens are written one by one, that takes
as long as the product. Products are the same to the bit; training goes on with the plain weights.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from breakeven.harness import hardware

#: A second copy of the weights may take this share of the memory that is free.
MOST = 0.25


def pack(model: Any) -> int:
    """Pack the linear layers of a model; bytes that it took, 0 where it does not help or does not fit."""
    import torch

    layers: list[Any] = [
        module
        for module in model.modules()
        if type(module) is torch.nn.Linear
        and module.weight.dtype == torch.bfloat16
        and module.weight.device.type == "cpu"
    ]
    size: int = sum(layer.weight.numel() * layer.weight.element_size() for layer in layers)
    if not layers or size > MOST * hardware.available_memory("cpu") or not works():
        return 0
    for layer in layers:
        packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())
        layer.forward = partial(_forward, layer, packed, layer.weight._version)
    return size


def works() -> bool:
    """Whether this torch and this CPU multiply packed weights, and get what they get from plain ones."""
    import torch

    random = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(shape, generator=random).bfloat16() for shape in ((3, 64), (32, 64)))
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        return torch.equal(_product(x, packed, None), torch.nn.functional.linear(x, weight))
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def _forward(layer: Any, packed: Any, version: int, x: Any) -> Any:
    """By packed weights, unless gradients may be wanted or the plain ones have been changed since."""
    import torch

    weight, bias = layer.weight, layer.bias
    if torch.is_inference_mode_enabled() and x.dtype == weight.dtype and weight._version == version:
        return _product(x, packed, bias)
    return torch.nn.functional.linear(x, weight, bias)


def _product(x: Any, packed: Any, bias: Any) -> Any:
    import torch

    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
