"""What the LoRA trainer shows to the model at which step."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import trainer_tiny as tiny

from breakeven.baselines.trainers._examples import Tokens, count, encode, passes, plan
from breakeven.harness.errors import BreakevenError
from breakeven.harness.training import TrainingPair


def example(length: int, mark: int = 0) -> Tokens:
    return Tokens((mark,) * (length - 2), (9, tiny.END))


EXAMPLES = [example(10 + i * 13 % 50, mark=i) for i in range(61)]


def planned(**changes: Any) -> Any:
    return plan(EXAMPLES, **{"epochs": 2, "batch_size": 8, "max_tokens": None, "seed": 0, **changes})


def pair(prompt: str, answer: str = "yes") -> TrainingPair:
    return TrainingPair("x", ({"role": "user", "content": prompt},), answer)


def test_every_example_is_seen_once_in_every_epoch() -> None:
    seen = Counter(example for batch in planned().batches for example in batch)
    assert set(seen.values()) == {2}
    assert len(seen) == len(EXAMPLES)


def test_the_examples_of_a_batch_have_similar_lengths() -> None:
    padded = sum(max(map(len, batch)) * len(batch) for batch in planned().batches)
    assert padded < 1.1 * sum(map(count, planned().batches))


def test_batches_come_in_no_order_of_length() -> None:
    longest = [max(map(len, batch)) for batch in planned(epochs=1).batches]
    assert longest != sorted(longest)


def test_the_same_seed_gives_the_same_plan() -> None:
    assert planned(seed=3) == planned(seed=3)


def test_another_seed_gives_another_order() -> None:
    assert planned(seed=3) != planned(seed=4)


def test_epochs_differ_in_their_order() -> None:
    batches = planned().batches
    assert batches[: len(batches) // 2] != batches[len(batches) // 2 :]


def test_half_an_epoch_shows_half_of_the_examples() -> None:
    assert sum(map(len, planned(epochs=0.5).batches)) == pytest.approx(30, abs=8)


def test_the_cap_on_training_tokens_is_never_exceeded() -> None:
    capped = planned(max_tokens=1000)
    assert sum(map(count, capped.batches)) <= 1000
    assert capped.capped


def test_a_cap_that_is_not_reached_shortens_nothing() -> None:
    assert planned(max_tokens=10**6) == planned()


def test_validation_falls_on_the_ends_of_epochs_and_the_last_step() -> None:
    assert planned(epochs=2.5).epoch_ends == {8, 16, 20}


def test_a_long_prompt_loses_its_beginning_and_the_answer_stays_whole() -> None:
    encoded = encode([pair("abcdefgh")], tiny.tunable(), 8)
    [kept] = encoded.examples
    assert list(kept.prompt) == tiny.ids("fgh>")
    assert list(kept.answer) == [*tiny.ids("yes"), tiny.END]
    assert (encoded.truncated, encoded.dropped) == (1, 0)


def test_an_example_whose_answer_does_not_fit_is_dropped_and_counted() -> None:
    encoded = encode([pair("a", "a long answer"), pair("b")], tiny.tunable(), 8)
    assert (len(encoded.examples), encoded.truncated, encoded.dropped) == (1, 0, 1)


def test_an_answer_without_the_end_token_is_refused() -> None:
    endless = tiny.tunable(encode=lambda messages, answer: ([5, 6], [7, 8]))
    with pytest.raises(BreakevenError, match="never stop"):
        encode([pair("a")], endless, 128)


def test_no_pass_is_wider_than_allowed() -> None:
    parts = passes(EXAMPLES, 200)
    assert all(max(map(len, part)) * len(part) <= 200 for part in parts)
    assert Counter(e for part in parts for e in part) == Counter(EXAMPLES)


def test_an_example_wider_than_a_pass_goes_alone() -> None:
    assert [len(part) for part in passes([example(300), example(20), example(20)], 200)] == [1, 2]
