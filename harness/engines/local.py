"""Language models on this machine, through transformers: any causal model, with or without a chat template.

Weights are loaded on first use, once for all engines of the same model, and adapters are switched over
them. What this engine bills is what a deployment would: padding, shared prefixes and batching change no
count. The token that ends an answer is not counted as output: providers bill it as no text either.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from breakeven.harness import attention, hardware, models
from breakeven.harness.contracts import Capabilities, Completion, Message, ModelCard, Request, Usage
from breakeven.harness.engines import _card, _choices, _decoding, _prefix, _templates, _weights
from breakeven.harness.engines._prefix import Prefixes
from breakeven.harness.engines._tokens import Tokens
from breakeven.harness.errors import UserError
from breakeven.harness.training import Tunable

CPU_BATCH_TOKENS = 4096
CUDA_BATCH_TOKENS = 32768


def local(
    model: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    batch_tokens: int | None = None,
    load_in_4bit: bool = False,
    threads: int | None = None,
    share_prefixes: bool = True,
    chat_template: str | None = None,
) -> LocalEngine:
    """An engine for a model on this machine.

    Args:
        model: a name, folder or Hub id, as `breakeven.harness.models.resolve` takes it.
        dtype: "auto" (bfloat16 where the hardware is fast at it, else float32), "bfloat16", "float32", ...
        device: "auto" (CUDA where there is any), "cpu", "cuda", "cuda:1".
        batch_tokens: padded tokens of a batch, new ones included; 4,096 on a CPU, 32,768 on CUDA.
        load_in_4bit: keep the base weights in 4 bits (CUDA only).
        threads: CPU threads; the physical cores unless told otherwise.
        share_prefixes: read what all prompts of a batch begin with once.
        chat_template: for a model that brings none: "alpaca", "chatml", a file of Jinja, or the text itself.

    Raises:
        UserError: a setting is wrong. A model that is not there is told on first use.
    """
    if batch_tokens is not None and batch_tokens < 1:
        raise UserError(f"batch_tokens is {batch_tokens}", field="batch_tokens", hint="It must be at least 1")
    return LocalEngine(
        model,
        dtype=dtype,
        device=device,
        batch_tokens=batch_tokens,
        load_in_4bit=load_in_4bit,
        threads=threads or hardware.physical_cores(),
        share_prefixes=share_prefixes,
        chat_template=_templates.chat_template(chat_template),
    )


class LocalEngine:
    """A causal language model in this process; see `breakeven.harness.contracts.Engine`."""

    def __init__(
        self,
        model: str,
        *,
        dtype: str,
        device: str,
        batch_tokens: int | None,
        load_in_4bit: bool,
        threads: int,
        share_prefixes: bool = True,
        chat_template: str | None = None,
        adapter: Path | None = None,
        base: LocalEngine | None = None,
    ) -> None:
        self.model, self.adapter = model, adapter
        self._settings: dict[str, Any] = {
            "dtype": dtype,
            "device": device,
            "batch_tokens": batch_tokens,
            "load_in_4bit": load_in_4bit,
            "threads": threads,
            "share_prefixes": share_prefixes,
            "chat_template": chat_template,
        }
        self._prefixes: dict[str, Prefixes] = {}
        self._base = base or self
        self.capabilities = Capabilities(logprobs=True, adapters=True, train=True, batch_dependent=True)

    # --- what it is ----------------------------------------------------------------------------

    def describe(self) -> ModelCard:
        """The card; reads the configuration and hashes the weights, but loads none."""
        return self._base._card

    @cached_property
    def _card(self) -> ModelCard:
        return _card.read(
            self.model,
            self._folder,
            dtype="nf4" if self._settings["load_in_4bit"] else self._dtype,
            device=self._device,
            chat_template=self._settings["chat_template"],
        )

    @cached_property
    def _folder(self) -> Path:
        return models.resolve(self.model)

    @cached_property
    def _device(self) -> str:
        return _weights.pick_device(self._settings["device"])

    @cached_property
    def _dtype(self) -> str:
        return _weights.pick_dtype(self._settings["dtype"], self._device, self._settings["threads"])

    @cached_property
    def _tokens(self) -> Tokens:
        return Tokens(self._folder, self._settings["chat_template"])

    @property
    def _shared(self) -> _weights.SharedModel:
        s, b = self._settings, self._base
        return _weights.shared(b._folder, b._dtype, b._device, s["load_in_4bit"], s["threads"])

    @property
    def _context(self) -> int:
        return self.describe().context or 2**31

    @property
    def chosen_settings(self) -> dict[str, Any]:
        """The settings with every "auto" decided: given back, they make an engine that answers the same."""
        chosen = {
            "dtype": self._base._dtype,
            "device": self._base._device,
            "batch_tokens": self._batch_tokens,
        }
        return {**self._settings, **chosen}

    def adapt(self, adapter: Path | None) -> LocalEngine:
        """The same model with a PEFT adapter folder applied, None for the bare base; weights are shared."""
        return LocalEngine(self.model, adapter=adapter, base=self._base, **self._settings)

    def unshared(self) -> LocalEngine:
        """The same without anything shared between requests: what priced seconds are measured with."""
        settings = {**self._settings, "share_prefixes": False}
        return LocalEngine(self.model, adapter=self.adapter, base=self._base, **settings)

    def warm_up(self) -> None:
        """Load the weights and run a few tokens, so that neither counts as the first request's time."""
        list(self.complete([Request("warm-up", text="Hello", max_tokens=2)]))

    def tunable(self) -> Tunable:
        """The bare base model for a trainer, which must unwrap whatever it wraps around it."""
        tokens = self._base._tokens
        return Tunable(
            model=self._bare(),
            encode=self.encode,
            pad_id=tokens.pad_id,
            end_id=tokens.end_id,
            context=self._context,
            device=self._base._device,
            card=self.describe(),
            chat_template=self.chat_template,
        )

    def _bare(self) -> Any:
        return self._shared.bare()

    @property
    def chat_template(self) -> str | None:
        """The template that stands in for the model's own, as text; None: its own."""
        found: str | None = self._settings["chat_template"]
        return found

    def encode(self, messages: Sequence[Message], answer: str) -> tuple[list[int], list[int]]:
        """See `training.Tunable`; loads the tokenizer only."""
        tokens = self._base._tokens
        if not messages:
            ids = tokens.plain(answer)
            return ids[:1], ids[1:]
        return tokens.of_messages(messages), tokens.answer(answer)

    def spelled(self, ids: Sequence[int]) -> str:
        """Text of token ids, special ones included."""
        return self._base._tokens.spelled(ids)

    @property
    def end_id(self) -> int:
        """The token that ends an answer."""
        return self._base._tokens.end_id

    # --- requests ------------------------------------------------------------------------------

    def count_tokens(self, request: Request) -> int:
        """Tokens of the prompt, chat template included."""
        return len(self._base._tokens.prompt(request))

    def plan(self, requests: Sequence[Request], concurrency: int | None = None) -> list[list[Request]]:
        """Batches of similar length, longest first; each at most `batch_tokens` padded tokens.

        What all prompts to be answered begin with is read once, so it counts for a quarter only: its keys and
        values still take memory for each row. The same requests give the same plan. Choices and generation
        are never mixed in a batch.

        Raises:
            UserError: a request is longer than the model's context.
        """
        if not self._settings["share_prefixes"]:
            self._base._tokens.forget()
        prompts = [self._checked_prompt(request) for request in requests]
        sized = [
            (*self._size(r, p), position)
            for position, (r, p) in enumerate(zip(requests, prompts, strict=True))
        ]
        begins = self._begin_alike([p for r, p in zip(requests, prompts, strict=True) if r.choices is None])
        order = sorted(sized, key=lambda s: (s[0], -(s[1] + s[2]), s[3]))
        batches: list[list[Request]] = []
        prompt = new = 0
        scored = None
        for scores, prompt_tokens, new_tokens, position in order:
            rows = len(batches[-1]) + 1 if batches else 1
            prompt, new = max(prompt, prompt_tokens), max(new, new_tokens)
            read = prompt + new - (0 if scores else begins * 3 // 4)
            full = read * rows > self._batch_tokens or rows > (concurrency or rows)
            if not batches or scores != scored or full:
                batches.append([])
                prompt, new, scored = prompt_tokens, new_tokens, scores
            batches[-1].append(requests[position])
        return batches

    def _begin_alike(self, prompts: Sequence[list[int]]) -> int:
        """Tokens that all prompts begin with and that are read once."""
        shares = self._settings["share_prefixes"] and attention.is_full(self._base._config)
        return _prefix.length(prompts) if shares else 0

    @cached_property
    def _config(self) -> Any:
        """The model's configuration; loads no weights."""
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self._base._folder)

    @property
    def _batch_tokens(self) -> int:
        on_cpu = self._base._device == "cpu"
        return self._settings["batch_tokens"] or (CPU_BATCH_TOKENS if on_cpu else CUDA_BATCH_TOKENS)

    def batch_bytes(self, requests: Sequence[Request]) -> int:
        """Bytes that answering a batch takes on top of the weights; loads them."""
        sizes = [self._size(request, self._checked_prompt(request)) for request in requests]
        longest, new = max(prompt for _, prompt, _ in sizes), max(new for _, _, new in sizes)
        return self._shared.batch_bytes(len(sizes), longest, new)

    def _size(self, request: Request, prompt: list[int]) -> tuple[bool, int, int]:
        """(scores choices?, prompt tokens, tokens that come on top)."""
        if request.choices is None:
            return False, len(prompt), min(request.max_tokens, self._context - len(prompt))
        return True, len(prompt), sum(len(self._base._tokens.answer(choice)) for choice in request.choices)

    def _checked_prompt(self, request: Request) -> list[int]:
        tokens = self._base._tokens
        prompt = tokens.prompt(request)
        if not prompt:
            raise UserError(f"request '{request.id}' is empty", hint="A prompt needs at least one token")
        answer = max((len(tokens.answer(choice)) for choice in request.choices or ()), default=1)
        if len(prompt) + answer > self._context:
            raise UserError(
                f"request '{request.id}' has {len(prompt) + answer:,} tokens with room for its answer, the "
                f"context of {self.model} is {self._context:,}",
                hint="Use fewer or shorter demonstrations and passages, or a model with a longer context",
            )
        return prompt

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        """Answer one batch, each as it finishes; `seconds` are each row's equal share of its steps.

        `output_tokens` are the tokens written before the end token, or up to and with the one that
        completed a stop string. A choice's score is its summed log-probability, end token included; the
        bill is the prompt once and all choices' own tokens, as input: an end token is never read.

        Raises:
            OutOfMemory: the batch did not fit, possibly after some rows had finished.
            UserError: a request is longer than the model's context.
        """
        prompts = [self._checked_prompt(request) for request in requests]
        shared = self._shared  # loading is nobody's time
        written = [i for i, request in enumerate(requests) if request.choices is None]
        if written:
            rows = [self._row(requests[i], prompts[i]) for i in written]
            config, device = shared.base.config, self._base._device
            longest, room = max(len(row.prompt) for row in rows), max(row.room for row in rows)
            shared.check_room(len(rows), longest, room, device)
            yield from _decoding.generate(
                rows, self._forward, config, self._base._tokens, device, self._shared_prefixes
            )
        scored = [i for i, request in enumerate(requests) if request.choices is not None]
        if scored:
            yield from self._scored([requests[i] for i in scored], [prompts[i] for i in scored])

    @property
    def _shared_prefixes(self) -> Prefixes | None:
        """Where this adapter's prefixes are kept; None where nothing is shared."""
        if not self._settings["share_prefixes"] or not attention.is_full(self._shared.base.config):
            return None
        return self._base._prefixes.setdefault(str(self.adapter or ""), Prefixes())

    def _forward(self, **inputs: Any) -> Any:
        return self._shared.forward(self.adapter, **inputs)

    def _row(self, request: Request, prompt: list[int]) -> _decoding.Row:
        return _decoding.Row(
            request,
            prompt,
            room=min(request.max_tokens, self._context - len(prompt)),
            stops=self._base._tokens.stops(request),
            random=_decoding.generator_for(request) if request.temperature > 0 else None,
        )

    def _scored(self, requests: Sequence[Request], prompts: Sequence[list[int]]) -> Iterator[Completion]:
        """The choices' scores of all requests, whose shared beginning is read once."""
        trees, config, device = self._base._trees, self._shared.base.config, self._base._device
        start = time.perf_counter()
        answer = self._base._tokens.answer
        choices = [[answer(choice) for choice in request.choices or ()] for request in requests]
        if trees:
            read, most = self._beginning(prompts), self._batch_tokens
            scores = _choices.score(prompts, choices, self._forward, config, device, read, most)
        else:
            scores = _choices.plain(prompts, choices, self._forward, device)
        share = (time.perf_counter() - start) / len(requests)
        for request, prompt, of, found in zip(requests, prompts, choices, scores, strict=True):
            assert request.choices is not None
            yield Completion(
                id=request.id,
                text=request.choices[max(range(len(found)), key=found.__getitem__)],
                finish_reason="choices",
                usage=Usage(input_tokens=len(prompt) + sum(len(choice) - 1 for choice in of)),
                seconds=share,
                choice_logprobs=tuple(found),
            )

    def _beginning(self, prompts: Sequence[list[int]]) -> Callable[[int], Any] | None:
        """Makes caches that hold what all prompts begin with; None where they share nothing."""
        prefixes = self._shared_prefixes
        begins = _prefix.length(prompts) if prefixes is not None else 0
        if prefixes is None or not begins:
            return None
        config, device = self._shared.base.config, self._base._device
        return lambda rows: prefixes.cache(
            prompts[0][:begins], [begins] * rows, self._forward, config, device
        )

    @cached_property
    def _trees(self) -> bool:
        tolerance = 1e-4 if self._dtype == "float32" else 0.05  # nats per token
        forward = self.adapt(None)._forward
        return _choices.takes_trees(forward, self._shared.base.config, self._device, tolerance)
