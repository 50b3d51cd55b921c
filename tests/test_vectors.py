"""Published numbers: every case of vectors.json against the function that the program computes it with.

A case that no function here answers for fails, and so does a function whose case is gone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from breakeven.harness import energy, flops, power, stats
from breakeven.harness.contracts import Usage
from breakeven.harness.prices import PriceBook, TokenPrice

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))
#: Sections with tests of their own.
LEFT_TO = {"decision", "replay"}
SECTIONS = sorted(name for name in VECTORS if not name.startswith("_") and name not in LEFT_TO)
MILLION = 1_000_000

Check = Callable[[], "float | Sequence[float]"]
CHECKS: dict[tuple[str, str], Check] = {}


def answers(section: str, beginning: str) -> Callable[[Check], Check]:
    """Marks the function that computes the case of `section` whose description begins so."""

    def mark(check: Check) -> Check:
        assert CHECKS.setdefault((section, beginning), check) is check, f"two for {beginning}"
        return check

    return mark


def cases() -> list[Any]:
    return [
        pytest.param(section, case, id=f"{section}: {case['what'][:60]}")
        for section in SECTIONS
        for case in VECTORS[section]["cases"]
    ]


def matching(section: str, case: dict[str, Any]) -> list[Check]:
    return [c for (s, beginning), c in CHECKS.items() if s == section and case["what"].startswith(beginning)]


@pytest.mark.parametrize(("section", "case"), cases())
def test_the_published_number_comes_out(section: str, case: dict[str, Any]) -> None:
    found = matching(section, case)
    assert len(found) == 1, f"{len(found)} functions answer for: {case['what']}"
    absolute, relative = case.get("tol_abs"), case.get("tol", 1e-12)
    expected = (
        pytest.approx(case["value"], rel=relative)
        if absolute is None
        else pytest.approx(case["value"], rel=0, abs=absolute)
    )
    assert found[0]() == expected


def test_no_function_answers_for_a_case_that_is_gone() -> None:
    known = {(section, case["what"]) for section in SECTIONS for case in VECTORS[section]["cases"]}
    gone = [key for key in CHECKS if not any(s == key[0] and what.startswith(key[1]) for s, what in known)]
    assert gone == []


def test_a_case_that_nobody_computes_would_be_noticed() -> None:
    assert matching("statistics", {"what": "a case that was added yesterday"}) == []


def test_every_section_is_checked_here_or_left_to_others_by_name() -> None:
    assert set(VECTORS) >= LEFT_TO
    assert all(VECTORS[section]["cases"] for section in SECTIONS)


# --- operations ------------------------------------------------------------------------------

TOKENS = VECTORS["tfew"]["tokens_query_and_targets"]
IN_CONTEXT = VECTORS["tfew"]["shots"] * VECTORS["tfew"]["tokens_per_shot"] + TOKENS
T5 = 11e9 * flops.ENCODER_DECODER_SHARE


@answers("tfew", "inference FLOPs, T-Few")
def tuned_call() -> float:
    return flops.prefill(T5, 0, 0, TOKENS)


@answers("tfew", "inference FLOPs, GPT-3 175B in-context")
def in_context_call() -> float:
    return flops.prefill(175e9, 0, 0, IN_CONTEXT)


@answers("tfew", "inference FLOPs, T5+LM 11B in-context")
def in_context_call_of_t5() -> float:
    return flops.prefill(T5, 0, 0, IN_CONTEXT)


@answers("tfew", "training FLOPs, T-Few")
def few_shot_training() -> float:
    return flops.full_training(T5, 0, 0, length=TOKENS, tokens=1000 * 8 * TOKENS)


@answers("tfew", "break-even in calls")
def calls_until_tuning_is_repaid() -> float:
    return flops.repaying_calls(few_shot_training(), in_context_call(), tuned_call())


@answers("flops", "GPT-3 training, 6*N*D")
def training_of_gpt_3() -> float:
    return flops.full_training(174.6e9, 0, 0, length=2048, tokens=300e9)


@answers("flops", "PaLM 540B MFU without attention")
def utilisation_of_palm_without_attention() -> float:
    return utilisation_of_palm(layers=0)


@answers("flops", "PaLM 540B MFU with 12*L*H*Q*T")
def utilisation_of_palm(layers: int = 118) -> float:
    second = flops.full_training(540.35e9, layers, 48 * 256, length=2048, tokens=238.3e3)
    return flops.utilisation(second, seconds=1.0, devices=6144, peak=275e12)


def linear_layers(width: int, mlp: int) -> list[tuple[int, int]]:
    """(inputs, outputs) of the seven linear layers of a Llama block: q, k, v, o; gate, up; down."""
    return [(width, width)] * 4 + [(width, mlp)] * 2 + [(mlp, width)]


@answers("flops", "LoRA over full training FLOPs, measured with FlopCounterMode: Llama, 8 layers, d=1024")
def lora_over_full_training() -> list[float]:
    base, layers, width = 104_825_856, 8, 1024
    lora = flops.lora_parameters(linear_layers(width, 2816) * layers, rank=8)
    return [
        flops.lora_training(base, lora, layers, width, length, tokens=length)
        / flops.full_training(base, layers, width, length, tokens=length)
        for length in (64, 512, 2048)
    ]


@answers("lora_parameters", "LLaMA-7B (32 layers, d=4096), r=8 on q,v")
def adapter_on_queries_and_values() -> int:
    return flops.lora_parameters([(4096, 4096)] * 2 * 32, rank=8)


@answers("lora_parameters", "LLaMA-7B (mlp 11008), r=16 on all seven")
def adapter_on_all_linear_layers() -> int:
    return flops.lora_parameters(linear_layers(4096, 11008) * 32, rank=16)


@answers("lora_parameters", "GPT-3 175B (96 layers, d=12288), r=4 on q,v")
def adapter_of_gpt_3() -> int:
    return flops.lora_parameters([(12288, 12288)] * 2 * 96, rank=4)


# --- energy ----------------------------------------------------------------------------------


def llama(hours: float) -> list[float]:
    """Megawatt-hours and tonnes of CO2-equivalent of so many GPU-hours."""
    joules = energy.from_power(hours * 3600, watts=400, overhead=1.1)
    return [joules / energy.JOULES_PER_KWH / 1000, energy.emissions(joules, 0.385) / 1000]


@answers("energy", "7B: 82,432 h")
def energy_of_llama_7b() -> list[float]:
    return llama(82_432)


@answers("energy", "65B: 1,022,362 h")
def energy_of_llama_65b() -> list[float]:
    return llama(1_022_362)


# --- statistics ------------------------------------------------------------------------------


@answers("statistics", "sample size, Miller 2024 eq. 9")
def sample_size() -> int:
    return power.sample_size(0.03, power.ASSUMED_VARIANCE, alpha=0.05, power=0.8)


@answers("statistics", "minimum detectable effect, n=198")
def detectable_effect() -> list[float]:
    noise = (1 / 6, 1 / 6)
    return [
        power.minimum_detectable_effect(198, power.ASSUMED_VARIANCE, resampling=noise, samples=(k, k))
        for k in (1, 10)
    ]


@answers("statistics", "McNemar [[794,86],[150,570]]")
def mcnemar() -> list[float]:
    found = stats.mcnemar(86, 150)
    return [found.statistic, found.p_exact]


@answers("statistics", "Wilson 95 % interval 81/263")
def wilson_of_some() -> list[float]:
    found = stats.wilson(81, 263)
    return [found.low, found.high]


@answers("statistics", "Wilson 95 % interval 0/20")
def wilson_of_none() -> list[float]:
    found = stats.wilson(0, 20)
    return [found.low, found.high]


@answers("statistics", "clustered over naive standard error when every item is duplicated m=4 times")
def clustered_over_naive() -> float:
    scores = np.repeat(np.random.default_rng(1).random(25), 4)
    return stats.clustered_se(scores, np.repeat(np.arange(25), 4)) / stats.clustered_se(scores)


@answers("statistics", "power of a 3-point difference at n=100, discordant pairs 10 %")
def power_of_discordant_pairs() -> list[float]:
    return [
        power.discordant_power(0.03, 0.10, 100),
        power.sample_size(0.03, power.discordant_variance(0.03, 0.10)),
    ]


# --- prices ----------------------------------------------------------------------------------


def price(model: str, on: date | None = None) -> TokenPrice:
    found = PriceBook.load(on=on).token_price(model)
    assert found is not None
    return found


@answers("prices", "gpt-4o, 1M in + 1M out")
def price_of_gpt_4o() -> float:
    return price("gpt-4o").cost(Usage(MILLION, MILLION))


@answers("prices", "gpt-4o, 1M in of which half cached")
def price_of_cached_input() -> float:
    return price("gpt-4o").cost(Usage(MILLION, 0, MILLION // 2), cached_discount=True)


@answers("prices", "o3, 1M in + 1M out, 2025-05-01 and 2025-08-01")
def price_of_o3_on_two_days() -> list[float]:
    days = date(2025, 5, 1), date(2025, 8, 1)
    return [price("o3", on=day).cost(Usage(MILLION, MILLION)) for day in days]
