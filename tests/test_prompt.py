"""The renderer: one prompt for serving and training, and what is given up when it is too long."""

from __future__ import annotations

import pytest
from strategy_fakes import brief

from breakeven.baselines import _prompt
from breakeven.baselines._prompt import Demonstration, Passage
from breakeven.harness.errors import UserError

SKY = Passage("d#0", "d", "Sky", "The sky is blue.")
ROSE = Demonstration("t0", {"text": "a rose"}, "red")


def words(messages: tuple[dict[str, str], ...]) -> int:
    return sum(len(m["content"].split()) for m in messages)


def test_a_prompt_is_instructions_then_demonstrations_then_the_question() -> None:
    messages = _prompt.messages(brief(), {"text": "the sky"}, demonstrations=[ROSE])
    assert [(m["role"], m["content"]) for m in messages[1:]] == [
        ("user", "Text: a rose"),
        ("assistant", "red"),
        ("user", "Text: the sky"),
    ]


def test_choices_are_listed_in_the_instructions() -> None:
    assert "- red\n- blue" in _prompt.messages(brief(), {"text": "x"})[0]["content"]


def test_choices_are_left_out_when_they_are_not_to_be_listed() -> None:
    messages = _prompt.messages(brief(), {"text": "x"}, list_choices=False)
    assert messages[0]["content"] == "Say the colour."


def test_a_task_without_instructions_or_choices_has_no_system_message() -> None:
    messages = _prompt.messages(brief(instructions="", choices=None), {"text": "x"})
    assert [m["role"] for m in messages] == ["user"]


def test_passages_stand_numbered_and_titled_before_the_question() -> None:
    content = _prompt.messages(brief(), {"text": "the sky"}, passages=[SKY])[-1]["content"]
    assert content.endswith("[1] Sky\nThe sky is blue.\n\nText: the sky")


def test_a_title_that_the_passage_opens_with_is_not_said_twice() -> None:
    passage = Passage("d#0", "d", "Sky", "# Sky\n\nIt is blue.")
    content = _prompt.messages(brief(), {"text": "x"}, passages=[passage])[-1]["content"]
    assert "[1]\n# Sky\n\nIt is blue." in content


def test_a_demonstration_shows_its_own_passages() -> None:
    shown = Demonstration("t0", {"text": "up"}, "blue", (SKY,))
    assert (
        "The sky is blue." in _prompt.messages(brief(), {"text": "x"}, demonstrations=[shown])[1]["content"]
    )


def test_a_conversation_as_input_is_sent_turn_by_turn() -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"},
             {"role": "user", "content": "the sky"}]  # fmt: skip
    messages = _prompt.messages(brief(input_template=""), {"messages": turns}, passages=[SKY])
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "user"]
    assert messages[-1]["content"].endswith("The sky is blue.\n\nthe sky")


def test_a_template_with_an_unknown_field_names_the_field() -> None:
    with pytest.raises(UserError, match="txet"):
        _prompt.messages(brief(input_template="{{ txet }}"), {"text": "x"})


def test_a_template_cannot_reach_into_python() -> None:
    with pytest.raises(UserError):
        _prompt.messages(brief(input_template="{{ text.__class__.__mro__ }}"), {"text": "x"})


def test_what_is_embedded_of_an_input_is_its_fields_without_the_words_of_the_template() -> None:
    fields = {"text": "the sky", "source": "page 3"}
    assert _prompt.query_text(brief(input_template="Question: {{ text }}"), fields) == "the sky"


def test_demonstrations_are_given_up_before_passages() -> None:
    def build(shown, context):  # type: ignore[no-untyped-def]
        return ({"role": "user", "content": "q " + "d " * 10 * len(shown) + "p " * 10 * len(context)},)

    fitted = _prompt.fit(build, [ROSE] * 8, [SKY] * 2, words, room=60)
    assert (len(fitted.demonstrations), len(fitted.passages)) == (3, 2)


def test_passages_are_given_up_when_no_demonstration_is_left_to_give_up() -> None:
    def build(shown, context):  # type: ignore[no-untyped-def]
        return ({"role": "user", "content": "q " + "d " * 10 * len(shown) + "p " * 10 * len(context)},)

    fitted = _prompt.fit(build, [ROSE] * 8, [SKY] * 5, words, room=35)
    assert (len(fitted.demonstrations), len(fitted.passages)) == (0, 3)


def test_an_unknown_context_length_limits_nothing() -> None:
    fitted = _prompt.fit(
        lambda d, p: ({"role": "user", "content": "d " * len(d)},), [ROSE] * 8, [], words, None
    )
    assert len(fitted.demonstrations) == 8


def test_a_question_that_is_too_long_by_itself_is_reported_with_its_length() -> None:
    fitted = _prompt.fit(lambda d, p: ({"role": "user", "content": "w " * 50},), [ROSE], [], words, room=20)
    assert (fitted.fits, fitted.tokens) == (False, 50)


@pytest.mark.parametrize("room", range(1, 100, 7))
def test_no_larger_selection_than_the_one_returned_would_have_fitted(room: int) -> None:
    def build(shown, context):  # type: ignore[no-untyped-def]
        return ({"role": "user", "content": "d " * 10 * len(shown) + "p " * 5 * len(context)},)

    fitted = _prompt.fit(build, [ROSE] * 6, [SKY] * 4, words, room)
    d, p = len(fitted.demonstrations), len(fitted.passages)
    larger = (d + 1, 4) if p == 4 else (0, p + 1)
    assert 10 * d + 5 * p <= room
    assert 10 * larger[0] + 5 * larger[1] > room or larger == (7, 4)
