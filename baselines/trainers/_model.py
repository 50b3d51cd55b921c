"""A base model with an adapter around it for the time of training: wrapping, loss, saving.

Independent of optimizer and data order, which `_lora` adds.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import psutil
import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from peft.helpers import disable_input_dtype_casting
from safetensors.torch import save
from torch.nn.attention import SDPBackend, sdpa_kernel

from breakeven.baselines._tuning import pairs_digest, weight_makers
from breakeven.baselines.trainers import _blocks
from breakeven.baselines.trainers._examples import Batch, Tokens
from breakeven.baselines.trainers._fused import fused
from breakeven.baselines.trainers._layout import Costs, Layout, in_one_row, in_rows, is_one_row
from breakeven.baselines.trainers._settings import Settings
from breakeven.harness import attention, store
from breakeven.harness.contracts import ModelCard
from breakeven.harness.errors import UserError
from breakeven.harness.training import TrainingPair, TrainingResult, Tunable

#: Widest row for which a CPU computes attention faster by plain matrix products than by its flash kernel.
PLAIN_ATTENTION = 128


@contextmanager
def adapted(tunable: Tunable, settings: Settings, seed: int) -> Iterator[Any]:
    """The base model wrapped with a fresh adapter drawn from `seed`, in training mode; unwrapped at the end.

    Within, torch's global random numbers are this training's own.

    Raises:
        UserError: no layer is called as `targets` says.
    """
    base = tunable.model
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.scale,
        lora_dropout=settings.dropout,
        target_modules=list(settings.targets) if isinstance(settings.targets, tuple) else settings.targets,
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
    )
    with _own_random_numbers(tunable):
        torch.manual_seed(seed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PEFT calls what transformers has deprecated
                model = get_peft_model(base, config)
        except ValueError as error:
            raise UserError(f"no adapter can be put there: {error}", field="targets") from error
        try:
            if settings.gradient_checkpointing:
                _switch_checkpointing(base, True)
            # Autocast picks the type of every product, so PEFT need not copy the inputs to float32 first.
            with (
                disable_input_dtype_casting(model, active=half_precision(tunable, settings)),
                fused(model),
                _attending(base),
            ):
                yield model.train()
        finally:
            if settings.gradient_checkpointing:
                _switch_checkpointing(base, False)
            model.unload()
            base.eval().requires_grad_(False)


def _own_random_numbers(tunable: Tunable) -> AbstractContextManager[None]:
    """Within, torch's random numbers are one's own; afterwards they go on as if nothing had been drawn."""
    on_gpu = tunable.device.startswith("cuda")
    return torch.random.fork_rng(devices=[torch.device(tunable.device)] if on_gpu else [])


class Forward:
    """Runs the wrapped model over token ids. `arithmetic` and `answers_only` say how, for the record."""

    def __init__(self, model: Any, tunable: Tunable, settings: Settings) -> None:
        self.model, self.pad_id, self.end_id = model, tunable.pad_id, tunable.end_id
        self.device = torch.device(tunable.device)
        self.half = half_precision(tunable, settings)
        self.recomputes = settings.gradient_checkpointing
        self.arithmetic = "bfloat16, adapter in float32" if self.half else "float32"
        self.vocabulary = 0
        self._trial = trial(tunable.model.config.get_text_config(decoder=True).vocab_size)
        self.answers_only = self._can_project_selected()
        self.costs = costs_of(tunable.model)
        if self.costs.one_row and not self._takes_one_row():
            self.costs = replace(self.costs, one_row=False)

    def loss(self, part: Batch) -> torch.Tensor:
        """Cross-entropy summed over the answer tokens of a few examples, end tokens included."""
        one_row = is_one_row(part, self.costs)
        found = in_one_row(part) if one_row else in_rows(part, self.pad_id)
        ends = torch.tensor([len(example.answer) for example in part]).cumsum(0) - 1
        if not bool((found.labels[ends] == self.end_id).all()):
            raise AssertionError("the end token is not trained: the tuned model would never stop")
        logits = self._logits(found)
        self.vocabulary = logits.shape[-1]
        labels = found.labels.to(self.device)
        return torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum")

    def memory(self) -> int:
        """Bytes held now: by tensors on a GPU, by this process otherwise."""
        return held_bytes(self.device)

    def _logits(self, layout: Layout) -> torch.Tensor:
        """(positions that predict, vocabulary), row by row."""
        wanted = layout.predicts.to(self.device)
        more: dict[str, Any] = {"logits_to_keep": wanted} if self.answers_only else {}
        if layout.places is not None:
            more["position_ids"] = layout.places.to(self.device)
        if layout.blocks is not None:
            more["blocks"] = layout.blocks.to(self.device)
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)
        with self._attention(layout.ids.shape[1]), half:
            logits: torch.Tensor = self.model(
                input_ids=layout.ids.to(self.device),
                attention_mask=layout.real.to(self.device),
                use_cache=False,
                **more,
            ).logits
        return logits if self.answers_only else logits[wanted]

    def _attention(self, width: int) -> AbstractContextManager[Any]:
        plain = self.device.type == "cpu" and width <= PLAIN_ATTENTION and not self.recomputes
        return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()

    def _can_project_selected(self) -> bool:
        """Whether the model computes logits of selected positions only, tried on eight tokens.

        The models of transformers take a mask as `logits_to_keep`; others project every token.
        """
        rows = in_rows(self._trial, self.pad_id)
        self.answers_only = False
        with self._trying():
            full = self._logits(rows)
        self.answers_only = True
        try:
            with self._trying():
                return _alike(self._logits(rows), full)
        except (TypeError, IndexError, ValueError, RuntimeError):
            return False

    def _takes_one_row(self) -> bool:
        """Whether the model gives the same logits for examples in one row, tried on a few tokens."""
        row = in_one_row(self._trial)
        try:
            with self._trying():
                same = _alike(self._logits(row), self._logits(in_rows(self._trial, self.pad_id)))
            with torch.no_grad():
                self._logits(row)  # some things, dropout in attention for one, are there in training only
            return same
        except (TypeError, IndexError, ValueError, RuntimeError):
            return False

    @contextmanager
    def _trying(self) -> Iterator[None]:
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train(training)


def trial(vocabulary: int) -> Batch:
    """Two examples of a few tokens, with a beginning in common, to try a model on.

    Ordinary tokens: after special ones in odd places, a model in bfloat16 says another thing for each way to
    compute it.
    """
    some = [3 + 7 * i % (vocabulary - 3) for i in range(16)]
    return Tokens((*some[:6],), (*some[6:9],)), Tokens((*some[:3], *some[9:12]), (*some[12:14],))


def held_bytes(device: torch.device) -> int:
    """Bytes held now: by tensors on a GPU, by this process otherwise."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return int(psutil.Process().memory_info().rss)


def _alike(some: torch.Tensor, full: torch.Tensor) -> bool:
    """Whether logits are the same, as far as bfloat16 may round differently for another shape of product."""
    return some.shape == full.shape and not bool((some - full).abs().max() > 0.05 * full.abs().max())


def costs_of(base: Any) -> Costs:
    """What tokens and pairs of them cost a base model."""
    text = base.config.get_text_config(decoder=True)
    own = sum(p.numel() for name, p in base.named_parameters() if "lora_" not in name)
    inner = own - base.get_input_embeddings().weight.numel()
    ours = attention.is_torchs(base.config) or base.config._attn_implementation == _blocks.NAME
    return Costs.of(
        inner,
        getattr(text, "hidden_size", 1),
        getattr(text, "num_hidden_layers", 1),
        one_row=attention.is_full(base.config) and ours,
    )


#: What was found of a model; to try it takes a second.
_foreseen: WeakKeyDictionary[Any, Costs] = WeakKeyDictionary()


def foreseen_costs(tunable: Tunable, settings: Settings) -> Costs:
    """The costs as training will find them, tried on the bare model in the attention of training.

    A model without numbers (on the meta device) cannot be tried: it is taken to be what it says it is.
    """
    base = tunable.model
    if any(p.is_meta for p in base.parameters()):
        return costs_of(base)
    if base not in _foreseen:
        with _own_random_numbers(tunable), _attending(base):
            base.train()  # dropout in attention, for one, is there in training only
            try:
                _foreseen[base] = Forward(base, tunable, settings).costs
            finally:
                base.eval()
    return _foreseen[base]


def save_adapter(
    model: Any,
    tunable: Tunable,
    trainer: str,
    result: TrainingResult,
    seed: int,
    pairs: Sequence[TrainingPair],
    folder: Path,
) -> None:
    """Write `adapter_model.safetensors`, `adapter_config.json`, and `breakeven.json`: what made it."""
    save_weights(model, tunable, folder)
    write_origin(tunable.card, trainer, result, seed, pairs, weight_makers(), folder)


def save_weights(model: Any, tunable: Tunable, folder: Path) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`."""
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: weights[name].detach().float().cpu().contiguous() for name in sorted(weights)}
    config = model.peft_config["default"]
    config.inference_mode = True
    config.base_model_name_or_path = tunable.card.name
    config.target_modules = sorted(config.target_modules)  # sets have no order, files should
    store.write_bytes(folder / "adapter_model.safetensors", save(tensors, {"format": "pt"}))
    with store.disk_errors(folder):
        config.save_pretrained(folder)


def write_origin(
    card: ModelCard,
    trainer: str,
    result: TrainingResult,
    seed: int,
    pairs: Sequence[TrainingPair],
    versions: Mapping[str, str],
    folder: Path,
) -> None:
    """Write `breakeven.json`: what made the adapter in `folder`."""
    made_by = {
        "trainer": trainer,
        "seed": seed,
        "model": asdict(card),
        "pairs": pairs_digest(pairs),
        "versions": dict(versions),
        **asdict(result),
    }
    store.write_text(folder / "breakeven.json", json.dumps(made_by, indent=1, ensure_ascii=False) + "\n")


def size_of_base(model: Any) -> int:
    """Parameters of the base model, as stored (a 4-bit model counts packed weights)."""
    return sum(p.numel() for p in model.parameters() if not p.requires_grad)


def half_precision(tunable: Tunable, settings: Settings) -> bool:
    """Whether matrix products are to be computed in bfloat16."""
    stored = tunable.model.get_input_embeddings().weight.dtype
    if settings.precision == "bfloat16" or stored == torch.bfloat16:
        return True
    if stored == torch.float16:
        if tunable.device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False):
            return True
        raise UserError(
            "a model in float16 cannot be trained here: its gradients vanish, and there is no bfloat16",
            field="dtype",
            hint="Set the engine's dtype to float32",
        )
    return False


@contextmanager
def _attending(base: Any) -> Iterator[None]:
    """Within, a model with torch's attention takes `blocks`; one with another attention is left alone."""
    before = base.config._attn_implementation
    if not attention.is_torchs(base.config):
        yield
        return
    base.set_attn_implementation(_blocks.NAME)
    try:
        yield
    finally:
        base.set_attn_implementation(before)


def _switch_checkpointing(base: Any, on: bool) -> None:
    """Gradient checkpointing under its new name (transformers 5.20) or its old one."""
    name = "enable" if on else "disable"
    switch = getattr(base, f"activation_checkpointing_{name}", None) or getattr(
        base, f"gradient_checkpointing_{name}"
    )
    if on:
        switch({"use_reentrant": False})
    else:
        switch()
