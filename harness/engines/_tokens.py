"""Between messages and token ids: chat template, end of a turn, and text back from ids.

Training and serving both go through `Tokens`, so a tuned model is trained on exactly what it will be asked.
A model without a chat template reads the contents of the messages joined by blank lines; there a blank line
ends a turn, as `<|im_end|>` does in a chat.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from breakeven.harness.contracts import Message, Request
from breakeven.harness.errors import UserError

BLANK_LINE = "\n\n"
#: Tokens of prompts that are remembered (16 MB), from the first count to the answer; choices are few.
KEPT_TOKENS, KEPT_ANSWERS = 4_000_000, 4096
TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<turn|>", "<|endofturn|>")


class Tokens:
    """A model's tokenizer, with what Breakeven needs to know of it."""

    def __init__(self, folder: Path, chat_template: str | None = None) -> None:
        """`chat_template` stands in for the tokenizer's own."""
        from transformers import AutoTokenizer

        from breakeven.harness._quiet import quiet

        with quiet():
            try:
                self.tokenizer: Any = AutoTokenizer.from_pretrained(
                    folder, trust_remote_code=False, local_files_only=True
                )
            except (ValueError, OSError) as error:
                said = str(error).splitlines()
                raise UserError(
                    f"the tokenizer cannot be loaded: {said[0] if said else error!r}", file=folder
                ) from error
        if chat_template is not None:
            self.tokenizer.chat_template = chat_template
        self._begin(_generation_ends(folder))

    def _begin(self, generation_ends: tuple[int, ...] = ()) -> None:
        self._generation_ends = generation_ends
        self._prompts: OrderedDict[tuple[str, bool], array[int]] = OrderedDict()
        self._kept = 0
        self._answers: dict[str, list[int]] = {}

    @property
    def has_template(self) -> bool:
        return bool(self.tokenizer.chat_template)

    def text(self, messages: Sequence[Message]) -> str:
        """The messages as the one string the model reads, up to where its answer begins."""
        chat = [dict(message) for message in messages]
        if not self.has_template:
            return BLANK_LINE.join(message["content"] for message in chat) + BLANK_LINE
        import jinja2

        try:
            return self._templated(chat)
        except jinja2.exceptions.TemplateError as error:
            folded = _system_in_user(chat)
            if folded == chat:
                raise UserError(f"the model's chat template refuses these messages: {error}") from error
            return self._templated(folded)

    def _templated(self, chat: list[dict[str, str]]) -> str:
        return str(self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))

    def prompt(self, request: Request) -> list[int]:
        """Token ids of a request's prompt, beginning-of-text token included where the model wants one."""
        if request.text is not None:
            return self._remembered(request.text, special=True)
        return self.of_messages(request.messages)

    def of_messages(self, messages: Sequence[Message]) -> list[int]:
        return self._remembered(self.text(messages), special=not self.has_template)

    def _remembered(self, text: str, *, special: bool) -> list[int]:
        """The ids of a prompt, tokenised once for counting, planning and answering."""
        key = text, special
        if key not in self._prompts:
            self._prompts[key] = array("i", self._ids(text, special=special))
            self._kept += len(self._prompts[key])
            while self._kept > KEPT_TOKENS and len(self._prompts) > 1:
                self._kept -= len(self._prompts.popitem(last=False)[1])
        self._prompts.move_to_end(key)
        return self._prompts[key].tolist()

    def forget(self) -> None:
        """Tokenise anew what comes: for passes that are timed, as a server has not seen a prompt before."""
        self._prompts.clear()
        self._answers.clear()
        self._kept = 0

    def answer(self, text: str) -> list[int]:
        """Token ids of an answer as they follow a prompt, ending in the end token."""
        if text not in self._answers:
            if len(self._answers) >= KEPT_ANSWERS:
                self._answers.clear()
            self._answers[text] = self._answer(text)
        return list(self._answers[text])

    def _answer(self, text: str) -> list[int]:
        before = self._ids(self._prompt_tail, special=False)
        joined = self._ids(self._prompt_tail + text, special=False)
        fits = joined[: len(before)] == before
        return [*(joined[len(before) :] if fits else self._ids(text, special=False)), self.end_id]

    def plain(self, text: str) -> list[int]:
        """Token ids of a text to be learned as it is: the model's beginning of text, the text, the end token.

        It begins as the tokenizer begins a text (not all have a token for it) and ends as an answer does, as
        it is what generation stops at.
        """
        ids = self._ids(text, special=True)
        while ids and ids[-1] in self.ends:  # some tokenizers put one there by themselves
            ids.pop()
        return [*ids, self.end_id]

    def _ids(self, text: str, *, special: bool) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])

    @cached_property
    def _prompt_tail(self) -> str:
        """What stands right before every answer."""
        marker = "breakeven"
        return self.text([{"role": "user", "content": marker}]).rpartition(marker)[2]

    @cached_property
    def end_id(self) -> int:
        """The token that ends an answer: the chat template's end of turn, else the end of text."""
        if self.has_template:
            for word in TURN_ENDS:
                token = self.tokenizer.convert_tokens_to_ids(word)
                known = token is not None and token != self.tokenizer.unk_token_id
                if known and word in str(self.tokenizer.chat_template):
                    return int(token)
        if self.tokenizer.eos_token_id is None:
            raise UserError("the model's tokenizer has no end token, so its answers would never end")
        return int(self.tokenizer.eos_token_id)

    @cached_property
    def ends(self) -> frozenset[int]:
        """Where generation stops: end of turn, end of text, and what the model itself declares."""
        eos = {self.tokenizer.eos_token_id} - {None}
        return frozenset({self.end_id, *eos, *self._generation_ends})

    @cached_property
    def pad_id(self) -> int:
        """A token to fill rows with; always masked, so which one does not matter."""
        pad = self.tokenizer.pad_token_id
        return int(pad if pad is not None else self.end_id)

    def stops(self, request: Request) -> tuple[str, ...]:
        """The request's stop strings, and the blank line where it is what ends a turn."""
        rendered = request.text is None and not self.has_template
        return (*request.stop, BLANK_LINE) if rendered else request.stop

    def spelled(self, ids: Sequence[int]) -> str:
        """Text of token ids, special ones included."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


def _generation_ends(folder: Path) -> tuple[int, ...]:
    import json

    try:
        ends = json.loads((folder / "generation_config.json").read_text(encoding="utf-8")).get("eos_token_id")
    except (OSError, ValueError):
        return ()
    if ends is None:
        return ()
    return tuple(ends) if isinstance(ends, list) else (int(ends),)


def _system_in_user(chat: list[dict[str, str]]) -> list[dict[str, str]]:
    """For templates that know no system role: its words open the first user message."""
    system = [m["content"] for m in chat if m["role"] == "system"]
    rest = [m for m in chat if m["role"] != "system"]
    if not system or not rest:
        return chat
    first = {**rest[0], "content": BLANK_LINE.join([*system, rest[0]["content"]])}
    return [first, *rest[1:]]
