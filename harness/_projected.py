"""Seconds of a model that is not on this machine: operations and bytes against what a GPU's maker promises.

A roofline (Williams et al. 2009): reading and training are bound by operations, writing by the bytes that
every pass has to read. Only a share of either peak is reached; the shares are named with every figure, and a
machine that is not in the table has no seconds at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from breakeven.harness import flops
from breakeven.harness._probes import Speeds
from breakeven.harness.engines import _memory

if TYPE_CHECKING:
    from breakeven.harness._forecast import Measured
    from breakeven.harness.engines.declared import DeclaredEngine


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A GPU: dense bfloat16 operations and bytes a second at their peak, and bytes of its memory."""

    name: str
    flops: float
    bandwidth: float
    memory: float


#: By the beginning of a machine's name in the price book. Makers' data sheets, without sparsity; that of the
#: A10G, which Amazon alone has, after baseten.co/blog/nvidia-a10-vs-a10g-for-ml-model-inference.
ACCELERATORS = {
    "l4": Accelerator("NVIDIA L4", 121e12, 0.3e12, 24e9),
    "a10g": Accelerator("NVIDIA A10G", 70e12, 0.6e12, 24e9),
    "a100-80gb": Accelerator("NVIDIA A100 80 GB", 312e12, 2.039e12, 80e9),
    "h100-80gb": Accelerator("NVIDIA H100 SXM", 989e12, 3.35e12, 80e9),
    "h200": Accelerator("NVIDIA H200", 989e12, 4.8e12, 141e9),
}
#: Share of the operations that training gets, recomputation not counted, and that reading is taken to get.
#: From a published run: 136 steps of 6 x 3,072 tokens took 3,552.5 s on an A10G, with CodeLlama-7B in 4 bits,
#: rank 256 and gradient checkpointing (github.com/philschmid/deep-learning-pytorch-huggingface,
#: fine-tune-llms-in-2024-with-trl.ipynb, January 2024): 24.7e12 a second by `flops.lora_training`.
COMPUTE_SHARE = 0.35
#: Share of the bandwidth that writing is taken to get. An assumption, not measured.
BANDWIDTH_SHARE = 0.5
#: Bytes more that a pass moves for each weight stored in 4 bits: unpacked to bfloat16, then read.
UNPACKED = 2 + 2


def accelerator(machine: str) -> Accelerator | None:
    """The GPU of a machine of the price book; None where it has none that is known here."""
    found = [name for name in ACCELERATORS if machine == name or machine.startswith(f"{name}-")]
    return ACCELERATORS[max(found, key=len)] if found else None


def projected(engine: DeclaredEngine, machine: str) -> Measured:
    """What is known of the model without trying it: bytes, and speeds where the machine's GPU is known."""
    from breakeven.harness._forecast import Measured

    card, gpu = engine.describe(), accelerator(machine)
    resting = round(engine.weight_bytes + _memory.CUDA_CONTEXT)
    if gpu is None:
        return Measured(card, resting_bytes=resting, projected=True)
    return Measured(
        card,
        _speeds(engine, gpu),
        resting_bytes=resting,
        room_bytes=round(gpu.memory),
        training_flops=gpu.flops * COMPUTE_SHARE,
        projected=True,
    )


def _speeds(engine: DeclaredEngine, gpu: Accelerator) -> Speeds:
    """Seconds of each part of a batch: a token read 2 N, a pair of tokens attention's share, a pass the bytes
    of all weights, a row in it 2 N again, a token in its cache that token's keys and values."""
    card = engine.describe()
    assert card.active_parameters is not None
    assert card.layers is not None
    assert card.attention_width is not None
    compute, bandwidth = gpu.flops * COMPUTE_SHARE, gpu.bandwidth * BANDWIDTH_SHARE
    token = 2.0 * card.active_parameters / compute
    moved = engine.weight_bytes + (card.active_parameters * UNPACKED if card.dtype == "nf4" else 0)
    return Speeds(
        batch=moved / bandwidth,
        token=token,
        pair=flops.attention(card.layers, card.attention_width, 1, 1) / compute,
        step=moved / bandwidth,
        row=token,
        cached=engine.cache_bytes / bandwidth,
    )


def sentence(name: str, engine: DeclaredEngine, machine: str) -> str:
    """What is rough about the figures of a model, and why."""
    rough = (
        "tokens are a rule of thumb"
        if engine.tokens_are_rough
        else "tokens are counted by its own tokenizer, which is here"
    )
    said = (
        f"{name} ({engine.model}) cannot run on this machine: {missing(engine)}. Estimated from its declared "
        f"architecture: {rough}; what untuned strategies write is counted as long as it may be; memory by "
        "formula"
    )
    gpu = accelerator(machine)
    if gpu is None:
        return f"{said}; minutes and money are unknown, for '{machine}' is no GPU whose peak is known here"
    return (
        f"{said}; minutes are projected to one {gpu.name} ({machine}): {COMPUTE_SHARE:.0%} of "
        f"{gpu.flops / 1e12:,.0f} TFLOPS when it reads and trains, as a published QLoRA run of CodeLlama-7B "
        f"reached on an A10G, and {BANDWIDTH_SHARE:.0%} of {gpu.bandwidth / 1e9:,.0f} GB/s when it writes, "
        "which is assumed; loading, validation and what a framework adds to each pass are left out"
    )


def missing(engine: DeclaredEngine) -> str:
    """What the machine lacks."""
    if engine.tokens_are_rough:
        return "its weights are not here"
    return "its weights are here, but 4 bits need a CUDA GPU"
