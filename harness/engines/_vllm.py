"""What goes into vLLM and what comes out of it, as plain data: nothing here imports vLLM or needs a GPU.

Field names are those of vLLM's `LLM`, `SamplingParams` and outputs; a test compares them with its source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from breakeven.harness.contracts import Completion, Request, Usage
from breakeven.harness.engines import _decoding
from breakeven.harness.engines._tokens import Tokens

#: LoRA ranks that vLLM reserves memory for.
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def engine_arguments(
    folder: Path,
    *,
    dtype: str,
    context: int,
    gpu_memory: float,
    tensor_parallel: int,
    max_lora_rank: int,
    adapters: int,
    quantization: str | None,
) -> dict[str, Any]:
    """Keyword arguments of `vllm.LLM` for a model folder; nothing is fetched and no foreign code is run."""
    return {
        "model": str(folder),
        "tokenizer": str(folder),
        "trust_remote_code": False,
        "dtype": dtype,
        "max_model_len": context,
        "gpu_memory_utilization": gpu_memory,
        "tensor_parallel_size": tensor_parallel,
        "quantization": quantization,
        "enable_prefix_caching": True,
        "enable_lora": True,
        "max_lora_rank": next((rank for rank in RANKS if rank >= max_lora_rank), RANKS[-1]),
        "max_loras": adapters,
        "generation_config": "vllm",  # not the folder's own: a suite says how it samples
        "seed": 0,
    }


def writing(request: Request, tokens: Tokens, room: int, *, shared: bool) -> dict[str, Any]:
    """Keyword arguments of `SamplingParams` that write an answer of at most `room` tokens.

    Args:
        shared: read what other prompts begin with from vLLM's cache; off in passes that are timed.
    """
    return {
        "temperature": request.temperature,
        "seed": _seed(request) if request.temperature > 0 else None,
        "max_tokens": room,
        "stop": [stop for stop in tokens.stops(request) if stop.strip()],
        "stop_token_ids": sorted(tokens.ends),
        "skip_reading_prefix_cache": not shared,
        "detokenize": True,
    }


def scoring() -> dict[str, Any]:
    """Keyword arguments of `SamplingParams` that read a prompt and return its tokens' log-probabilities.

    They are of the unscaled distribution. The cache of prefixes is not read: it holds no log-probabilities,
    and what came back for cached positions has depended on the order of requests (vllm issue 42019).
    """
    return {
        "temperature": 0.0,
        "max_tokens": 1,
        "prompt_logprobs": 0,
        "skip_reading_prefix_cache": True,
        "detokenize": False,
    }


def _seed(request: Request) -> int:
    """A seed of the request's own, so that its sample does not depend on its neighbours' draws."""
    key = hashlib.sha256(f"{request.seed}:{request.id}".encode()).digest()
    return int.from_bytes(key[:7], "big")


def written(request: Request, prompt: list[int], output: Any, tokens: Tokens, seconds: float) -> Completion:
    """The completion of a `RequestOutput`: cut, ended and counted exactly as the local engine does it."""
    answer = output.outputs[0]
    row = _decoding.Row(request, prompt, room=len(answer.token_ids) + 1, stops=tokens.stops(request))
    for token in answer.token_ids:
        if row.accept(int(token), tokens):
            break
    else:
        row.finish_reason = str(answer.finish_reason or "length")
        row.text = tokens.decode(row.written)
    row.seconds = seconds
    return row.completion()


def scored(
    request: Request,
    prompt: Sequence[int],
    choices: Sequence[Sequence[int]],
    outputs: Sequence[Any],
    seconds: float,
) -> Completion:
    """The completion of a request whose choices were read, each behind its prompt; `outputs` in their order.

    Billed as the local engine bills it: the prompt once, and all choices' own tokens, as input.
    """
    assert request.choices is not None
    found = tuple(
        answer_logprob(len(prompt), choice, output.prompt_logprobs)
        for choice, output in zip(choices, outputs, strict=True)
    )
    return Completion(
        id=request.id,
        text=request.choices[max(range(len(found)), key=found.__getitem__)],
        finish_reason="choices",
        usage=Usage(input_tokens=len(prompt) + sum(len(choice) - 1 for choice in choices)),
        seconds=seconds,
        choice_logprobs=found,
    )


def answer_logprob(
    start: int, answer: Sequence[int], logprobs: Sequence[Mapping[int, Any] | None] | None
) -> float:
    """Summed log-probability of the tokens of `answer`, the first of which stands at `start`, in nats.

    Args:
        logprobs: vLLM's of each position: token id -> `Logprob`, the token itself always among them.

    Raises:
        ValueError: vLLM returned none for a position.
    """
    places = list(logprobs or ())
    total = 0.0
    for place, token in enumerate(answer, start):
        at = places[place] if place < len(places) else None
        if at is None or token not in at:
            raise ValueError(f"vLLM returned no log-probability of the token at position {place}")
        total += float(at[token].logprob)
    return total
