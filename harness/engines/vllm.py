"""Language models on this machine's GPU through vLLM, an optional extra: `pip install 'breakeven[vllm]'`.

Prompts are rendered and tokenised by the same code as the local engine's, so both are asked the very same
tokens; vLLM batches, caches prefixes and runs the model. It serves adapters and trains none. What goes in and
comes out is in `_vllm`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from breakeven.harness import models
from breakeven.harness.contracts import Capabilities, Completion, ModelCard, Request
from breakeven.harness.engines import _card, _vllm, _weights
from breakeven.harness.engines._tokens import Tokens
from breakeven.harness.errors import UserError

#: Requests to a group: what a crash may interrupt. vLLM itself decides how many run at once.
GROUP = 256


def vllm(
    model: str,
    *,
    dtype: str = "bfloat16",
    context: int | None = None,
    gpu_memory: float = 0.85,
    tensor_parallel: int = 1,
    max_lora_rank: int = 64,
    adapters: int = 4,
    quantization: str | None = None,
) -> VLLMEngine:
    """A model served by vLLM inside this process.

    Args:
        model: a name, folder or Hub id, as `breakeven.harness.models.resolve` takes it.
        dtype: "bfloat16", "float16" or "float32".
        context: tokens of prompt and answer at most; the model's own unless told.
        gpu_memory: share of the GPU's memory that vLLM takes, weights included.
        tensor_parallel: GPUs that the model is split over.
        max_lora_rank: the largest rank of an adapter that is to be served.
        adapters: adapters of one batch at most.
        quantization: as vLLM names it ("bitsandbytes", "fp8", ...); None: as the folder says.

    Raises:
        UserError: vLLM is not installed, or there is no GPU.
    """
    require()
    return VLLMEngine(
        model,
        dtype=_weights.pick_dtype(dtype, "cuda", 1),
        context=context,
        gpu_memory=gpu_memory,
        tensor_parallel=tensor_parallel,
        max_lora_rank=max_lora_rank,
        adapters=adapters,
        quantization=quantization,
    )


def require() -> None:
    """Raises UserError where vLLM cannot run, in words that say what would help."""
    if find_spec("vllm") is None:
        raise UserError(
            "the engine 'vllm' needs the package vllm, which is not installed",
            field="engine",
            hint="pip install 'breakeven[vllm]', or leave `engine` out to use transformers",
        )
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            "the engine 'vllm' needs a CUDA GPU, and torch sees none here",
            field="engine",
            hint="leave `engine` out to use transformers, which runs on the CPU too",
        )


class VLLMEngine:
    """See `vllm`. Several of them may share one model in memory, each with an adapter of its own."""

    def __init__(
        self,
        model: str,
        *,
        adapter: Path | None = None,
        base: VLLMEngine | None = None,
        shares: bool = True,
        **settings: Any,
    ) -> None:
        self.model, self.adapter = model, adapter
        self._settings, self._shares = settings, shares
        self._base = base or self
        self._known: dict[_weights.AdapterKey, int] = {}
        self.capabilities = Capabilities(logprobs=True, adapters=True, batch_dependent=True)

    # --- what it is ----------------------------------------------------------------------------

    def describe(self) -> ModelCard:
        """The card; reads the configuration and hashes the weights, but loads none."""
        return self._base._card

    @cached_property
    def _card(self) -> ModelCard:
        quantized = self._settings["quantization"]
        found = _card.read(
            self.model, self._folder, dtype=quantized or self._settings["dtype"], device="cuda"
        )
        wanted, own = self._settings["context"], found.context
        context = min(wanted, own) if wanted is not None and own is not None else wanted or own
        return replace(found, engine="vllm", context=context)

    @property
    def chosen_settings(self) -> dict[str, Any]:
        """The settings, for a resumed run: given back, they make an engine that answers the same."""
        return dict(self._settings)

    @cached_property
    def _folder(self) -> Path:
        return models.resolve(self.model)

    @cached_property
    def _tokens(self) -> Tokens:
        return Tokens(self._folder)

    @property
    def _context(self) -> int:
        return self.describe().context or 2**31

    @cached_property
    def _llm(self) -> Any:
        """The model in memory; loading takes minutes, so it is nobody's time."""
        from vllm import LLM

        settings = {**self._settings, "context": self.describe().context}
        try:
            return LLM(**_vllm.engine_arguments(self._folder, **settings))
        except (ValueError, RuntimeError) as error:
            said = str(error).splitlines()
            raise UserError(
                f"vLLM cannot load the model: {said[0] if said else error!r}",
                file=self._folder,
                hint="lower gpu_memory or context, or use a smaller model",
            ) from error

    def warm_up(self) -> None:
        """Load the weights and run a few tokens, so that neither counts as the first request's time."""
        list(self.complete([Request("warm-up", text="Hello", max_tokens=2)]))

    def adapt(self, adapter: Path | None) -> VLLMEngine:
        """The same model with a PEFT adapter folder applied, None for the bare base; weights are shared."""
        return VLLMEngine(self.model, adapter=adapter, base=self._base, shares=self._shares, **self._settings)

    def unshared(self) -> VLLMEngine:
        """The same without anything shared between requests: what priced seconds are measured with."""
        return VLLMEngine(self.model, adapter=self.adapter, base=self._base, shares=False, **self._settings)

    # --- requests ------------------------------------------------------------------------------

    def count_tokens(self, request: Request) -> int:
        """Tokens of the prompt, chat template included."""
        return len(self._base._tokens.prompt(request))

    def plan(self, requests: Sequence[Request], concurrency: int | None = None) -> list[list[Request]]:
        """Groups in the given order, choices and generation apart; vLLM forms its own batches of each.

        Raises:
            UserError: a request is longer than the model's context.
        """
        for request in requests:
            self._checked_prompt(request)
        size = concurrency or GROUP
        groups = []
        for scores in (False, True):
            alike = [r for r in requests if (r.choices is not None) == scores]
            groups += [alike[i : i + size] for i in range(0, len(alike), size)]
        return groups

    def _checked_prompt(self, request: Request) -> list[int]:
        tokens = self._base._tokens
        prompt = tokens.prompt(request)
        if not prompt:
            raise UserError(f"request '{request.id}' is empty", hint="A prompt needs at least one token")
        # behind a choice vLLM always writes one token more
        answer = 1 + max((len(tokens.answer(choice)) for choice in request.choices or ()), default=0)
        if len(prompt) + answer > self._context:
            raise UserError(
                f"request '{request.id}' has {len(prompt) + answer:,} tokens with room for its answer, the "
                f"context of {self.model} is {self._context:,}",
                hint="Use fewer or shorter demonstrations and passages, or a model with a longer context",
            )
        return prompt

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer one group, whose wall time is shared equally; all come when the last one is done.

        Raises:
            UserError: a request is longer than the model's context, or the adapter is not one vLLM serves.
        """
        prompts = [self._checked_prompt(request) for request in requests]
        tokens = self._base._tokens
        choices = [[tokens.answer(choice) for choice in request.choices or ()] for request in requests]
        asked: list[tuple[list[int], dict[str, Any]]] = []
        for request, prompt, of in zip(requests, prompts, choices, strict=True):
            if request.choices is None:
                room = min(request.max_tokens, self._context - len(prompt))
                asked.append((prompt, _vllm.writing(request, tokens, room, shared=self._shares)))
            else:
                asked += [([*prompt, *choice], _vllm.scoring()) for choice in of]
        outputs, seconds = self._generated(asked)
        share = seconds / max(len(requests), 1)
        at = 0
        for request, prompt, of in zip(requests, prompts, choices, strict=True):
            own = outputs[at : at + (len(of) if request.choices is not None else 1)]
            at += len(own)
            if request.choices is None:
                yield _vllm.written(request, prompt, own[0], tokens, share)
            else:
                yield _vllm.scored(request, prompt, of, own, share)

    def _generated(self, asked: Sequence[tuple[list[int], dict[str, Any]]]) -> tuple[list[Any], float]:
        """(vLLM's outputs in the order asked, seconds)."""
        from vllm import SamplingParams

        llm, adapter = self._base._llm, self._adapter_request()
        prompts = [{"prompt_token_ids": ids} for ids, _ in asked]
        sampling = [SamplingParams(**arguments) for _, arguments in asked]
        start = time.perf_counter()
        try:
            outputs = llm.generate(prompts, sampling, use_tqdm=False, lora_request=adapter)
        except ValueError as error:
            said = str(error).splitlines()
            raise UserError(f"vLLM refuses: {said[0] if said else error!r}", file=self.adapter) from error
        return list(outputs), time.perf_counter() - start

    def _adapter_request(self) -> Any:
        """vLLM's name for the adapter, another one when it is trained anew; None for the base."""
        if self.adapter is None:
            return None
        from vllm.lora.request import LoRARequest

        key = _weights.adapter_key(self.adapter)
        number = self._base._known.setdefault(key, len(self._base._known) + 1)
        return LoRARequest(
            lora_name=f"adapter{number}", lora_int_id=number, lora_path=str(self.adapter.resolve())
        )

    def __repr__(self) -> str:
        return f"VLLMEngine({self.model!r})"
