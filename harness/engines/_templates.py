"""Chat templates for models that bring none (base models): by name, from a file, or as text.

The engine owns the template. It renders with it when it serves and when it trains, and systems that train in
a process of their own are told the same text, so that all of them read one prompt. Turns end in the model's
own end token, for a base model knows no other.
"""

from __future__ import annotations

from pathlib import Path

from breakeven.harness.errors import UserError

#: Stanford Alpaca (Taori et al. 2023) as Axolotl writes `type: alpaca`: instructions, "### Instruction:", and
#: "### Response:". An `input` belongs into the user's message, under "### Input:".
ALPACA = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
    "{% elif message['role'] == 'user' %}"
    "{{ '### Instruction:\\n' + message['content'] + '\\n\\n### Response:\\n' }}"
    "{% else %}{{ message['content'] + eos_token }}{% if not loop.last %}{{ '\\n\\n' }}{% endif %}{% endif %}"
    "{% endfor %}"
)
#: OpenAI's ChatML with its roles in plain text. `<|im_end|>`, which would be a new token with a random vector
#: that LoRA leaves as it is, is the end token here.
CHATML = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + eos_token + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
NAMED = {"alpaca": ALPACA, "chatml": CHATML}


def chat_template(given: str | None) -> str | None:
    """The Jinja text that a setting `chat_template` means; None stays None: the tokenizer's own.

    Args:
        given: "alpaca", "chatml", a file, or the text itself.

    Raises:
        UserError: it is none of these, or no Jinja.
    """
    if given is None:
        return None
    text = NAMED.get(given, given)
    if "{" not in text:
        try:
            text = Path(given).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            raise UserError(
                f"'{given}' is no chat template",
                field="chat_template",
                hint=f"{', '.join(NAMED)}, a file of Jinja, or the text itself",
            ) from None
    from jinja2 import TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    try:
        ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"]).parse(text)
    except TemplateSyntaxError as error:
        raise UserError(
            f"the chat template is not valid Jinja: {error.message}", line=error.lineno, field="chat_template"
        ) from error
    return text
