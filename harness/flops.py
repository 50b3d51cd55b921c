"""Floating-point operations by formula, and the parameters a LoRA adapter has.

A multiplication and an addition count as two operations. N are the parameters multiplied per token (a tied
embedding once, as the output head), L the layers, d = heads x head size, T the tokens of a sequence.

Sources: 2N and 6N per token, Kaplan et al. 2020 (arXiv 2001.08361, section 2.1) and Hoffmann et al. 2022;
the attention term 12 L d T of a training step, Chowdhery et al. 2022 (PaLM, arXiv 2204.02311, appendix B),
of which the forward third is 4 L d T. All count full attention between all pairs of tokens, as PaLM's does.
"""

from __future__ import annotations

from collections.abc import Iterable

from breakeven.harness.contracts import ModelCard

#: An encoder-decoder sends each token through one of its two halves: N is this share of all parameters
#: (Liu et al. 2022, arXiv 2205.05638, section 4.2).
ENCODER_DECODER_SHARE = 0.5


def attention(layers: int, width: int, queries: float, keys: float) -> float:
    """Operations of the attention of `queries` tokens over `keys` tokens, forward: 4 L d per pair."""
    return 4.0 * layers * width * queries * keys


def prefill(parameters: float, layers: int, width: int, tokens: float) -> float:
    """Operations to read a prompt of `tokens`: 2 N T + 4 L d T^2."""
    return 2.0 * parameters * tokens + attention(layers, width, tokens, tokens)


def decode(parameters: float, layers: int, width: int, past: float, tokens: float) -> float:
    """Operations to write `tokens` one after the other behind `past` tokens in the cache.

    Each new token is fed once (2 N) and attends to all before it and itself; the sum over past + 1,
    past + 2, ... is tokens x (past + (tokens + 1) / 2).
    """
    return 2.0 * parameters * tokens + attention(layers, width, tokens, past + (tokens + 1) / 2)


def inference(parameters: float, layers: int, width: int, input_tokens: float, output_tokens: float) -> float:
    """Operations of one request. The first output token comes with the prompt's own pass."""
    read = prefill(parameters, layers, width, input_tokens)
    return read + decode(parameters, layers, width, input_tokens, max(0.0, output_tokens - 1))


def full_training(parameters: float, layers: int, width: int, length: float, tokens: float) -> float:
    """Operations to train all weights on `tokens` tokens in sequences of `length`: 6 N + 12 L d T each."""
    return tokens * (6.0 * parameters + 12.0 * layers * width * length)


def lora_training(
    parameters: float, lora: float, layers: int, width: int, length: float, tokens: float
) -> float:
    """Operations to train a LoRA adapter of `lora` parameters: 4 N + 12 L d T + 6 N_lora per token.

    Forward and the gradients of the activations pass through all base weights (2 N + 2 N); only the
    gradients of the weights themselves (the third 2 N) are saved.
    """
    return tokens * (4.0 * parameters + 12.0 * layers * width * length + 6.0 * lora)


def lora_parameters(shapes: Iterable[tuple[int, int]], rank: int) -> int:
    """Parameters of a LoRA adapter of `rank` on linear layers of (inputs, outputs): rank x (in + out) each.

    Hu et al. 2021 (arXiv 2106.09685, section 4.1): A is rank x in, B is out x rank.
    """
    return sum(rank * (inputs + outputs) for inputs, outputs in shapes)


def utilisation(operations: float, seconds: float, devices: int, peak: float) -> float:
    """Share of the operations that `devices` with `peak` operations a second could have made (MFU).

    Chowdhery et al. 2022 (PaLM, appendix B): what the model needs by formula counts, recomputation does not.
    """
    return operations / (seconds * devices * peak)


def repaying_calls(one_off: float, before: float, after: float) -> float:
    """Calls until what was spent once (`one_off`) is saved: the difference per call from `before` to `after`.

    All in one unit (operations, money). Infinite where a call is no cheaper afterwards.
    """
    return one_off / (before - after) if after < before else float("inf")


def inference_flops(card: ModelCard, input_tokens: float, output_tokens: float) -> float | None:
    """Operations of one request on the model of `card`; None where its size or shape is unknown."""
    shape = _shape(card)
    return None if shape is None else inference(*shape, input_tokens, output_tokens)


def lora_training_flops(card: ModelCard, training_tokens: float, sequences: float, lora: int) -> float | None:
    """Operations to train an adapter of `lora` parameters; None where the model is unknown.

    Args:
        training_tokens: over all epochs.
        sequences: over all epochs (examples x epochs); their mean length stands for each one's, which
            understates the attention of sequences of unequal length a little.
    """
    shape = _shape(card)
    if shape is None:
        return None
    parameters, layers, width = shape
    length = training_tokens / sequences if sequences else 0.0
    return lora_training(parameters, lora, layers, width, length, training_tokens)


def _shape(card: ModelCard) -> tuple[int, int, int] | None:
    if card.active_parameters is None or card.layers is None or card.attention_width is None:
        return None
    return card.active_parameters, card.layers, card.attention_width
