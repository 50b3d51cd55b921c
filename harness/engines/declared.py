"""A model of which only the architecture is here: it renders, counts and plans, and can answer nothing.

Stands in for the local engine where a suite is looked at (`estimate`, `export`) on a machine that has neither
the weights nor the GPU they need. Tokens are a rule of thumb unless the tokenizer is here; bytes and
operations follow from the declared shape (`models.Shape`).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from breakeven.harness import models
from breakeven.harness.contracts import Completion, ModelCard, Request
from breakeven.harness.engines import _card, _memory, _weights
from breakeven.harness.engines._tokens import Tokens
from breakeven.harness.engines.local import LocalEngine, local
from breakeven.harness.errors import UserError

#: Ids of the tokens that a rule of thumb has: unknown, beginning, end; pieces of text come after them.
UNKNOWN, BEGIN, END, FIRST = 0, 1, 2, 3
SHORT = {"bf16": "bfloat16", "fp32": "float32", "f32": "float32", "fp16": "float16"}
#: Bytes of a number as the model computes on a GPU.
COMPUTED = 2


def stands_in(engine: str, model: str, settings: Mapping[str, Any]) -> bool:
    """Whether a suite's model can be looked at by its architecture alone, and cannot run on this machine."""
    entry = models.known(model)
    if engine != "local" or entry is None or entry.shape is None:
        return False
    return not models.is_cached(model) or (bool(settings.get("load_in_4bit")) and not _has_gpu())


def declared(model: str, **settings: Any) -> DeclaredEngine:
    """The stand-in for `local(model, **settings)`. Raises UserError as that does for a wrong setting."""
    return DeclaredEngine(model, **local(model, **settings)._settings)


class DeclaredEngine(LocalEngine):
    """See the module: a local engine whose every figure comes from the declared architecture, for a GPU."""

    @property
    def tokens_are_rough(self) -> bool:
        return not models.is_cached(self.model)

    @cached_property
    def _entry(self) -> models.KnownModel:
        entry = models.known(self.model)
        assert entry is not None
        return entry

    @cached_property
    def _config(self) -> Any:
        """The configuration that transformers would read from the folder."""
        from transformers import AutoConfig

        shape = self._entry.shape
        assert shape is not None
        return AutoConfig.for_model(
            shape.kind,
            hidden_size=shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.key_heads,
            intermediate_size=shape.inner,
            vocab_size=shape.vocabulary,
            max_position_embeddings=shape.context,
            tie_word_embeddings=False,
        )

    @cached_property
    def _skeleton(self) -> Any:
        """The model without storage: a trainer can count with it, not train it."""
        return _memory.meta(self._config, "bfloat16")

    def _bare(self) -> Any:
        return self._skeleton

    @cached_property
    def _card(self) -> ModelCard:
        parameters, active = _card.count_parameters(self._skeleton)
        text = self._config
        return ModelCard(
            name=self.model,
            engine="local",
            parameters=parameters,
            active_parameters=active,
            layers=text.num_hidden_layers,
            attention_width=text.num_attention_heads * text.head_dim,
            context=text.max_position_embeddings,
            licence=self._entry.licence,
            dtype="nf4" if self._settings["load_in_4bit"] else self._dtype,
            device=self._device,
        )

    @cached_property
    def _device(self) -> str:
        given = str(self._settings["device"])
        return "cuda" if given == "auto" else given

    @cached_property
    def _dtype(self) -> str:
        given = str(self._settings["dtype"])
        return "bfloat16" if given == "auto" else SHORT.get(given, given)

    @cached_property
    def _tokens(self) -> Tokens:
        if self.tokens_are_rough:
            return RoughTokens(self.chat_template)
        return Tokens(self._folder, self.chat_template)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights in memory."""
        found = _memory.weights(self._config, self._card.dtype)
        assert found is not None
        return found

    @property
    def cache_bytes(self) -> int:
        """Bytes of the keys and values of one token."""
        return _memory.cached(self._config, COMPUTED)

    def batch_bytes(self, requests: Sequence[Request]) -> int:
        """See `LocalEngine.batch_bytes`."""
        sizes = [self._size(request, self._checked_prompt(request)) for request in requests]
        longest, new = max(prompt for _, prompt, _ in sizes), max(new for _, _, new in sizes)
        return _memory.answering(self._config, COMPUTED, len(sizes), longest, new)

    def adapt(self, adapter: Path | None) -> DeclaredEngine:
        return self

    def unshared(self) -> DeclaredEngine:
        return self

    def complete(self, requests: Sequence[Request]) -> Iterator[Completion]:
        raise UserError(f"{self.model} is known by its architecture only: it cannot answer here")


class RoughTokens(Tokens):
    """Tokens as the rule of thumb counts them that hosted engines count by (`_wire.estimated_tokens`)."""

    def __init__(self, chat_template: str | None) -> None:
        self.tokenizer = _RoughTokenizer(chat_template)
        self._begin()


class _RoughTokenizer:
    """As much of a tokenizer as `Tokens` asks for. Equal beginnings of texts have equal ids."""

    unk_token_id, eos_token_id, pad_token_id = UNKNOWN, END, None
    _words = re.compile(r"<s>|</s>|\d{1,3}|[^\W\d]+|[^\w\s]")

    def __init__(self, chat_template: str | None) -> None:
        self.chat_template = chat_template

    def __call__(self, text: str, *, add_special_tokens: bool, verbose: bool = False) -> dict[str, list[int]]:
        ids = [BEGIN] if add_special_tokens else []
        for word in self._words.findall(text):
            if word in ("<s>", "</s>"):
                ids.append(BEGIN if word == "<s>" else END)
            elif word.isascii():
                ids += [_id(word[i : i + 6].encode()) for i in range(0, len(word), 6)]
            else:
                raw = word.encode("utf-8", "surrogatepass")
                ids += [_id(raw[i : i + 4]) for i in range(0, len(raw), 4)]
        return {"input_ids": ids}

    def apply_chat_template(
        self, chat: Sequence[Mapping[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        return environment.from_string(str(self.chat_template)).render(
            messages=chat, add_generation_prompt=add_generation_prompt, bos_token="<s>", eos_token="</s>"
        )

    def convert_tokens_to_ids(self, token: str) -> int:
        return UNKNOWN

    def decode(self, ids: Sequence[int], **options: Any) -> str:
        raise AssertionError("a rule of thumb writes nothing")


def _id(piece: bytes) -> int:
    return FIRST + zlib.crc32(piece) % 30_000


def _has_gpu() -> bool:
    return _weights.pick_device("auto") == "cuda"
