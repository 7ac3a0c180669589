"""A byte-level tokenizer of our own in GGUF's `gpt2` form: one token a byte, a few control tokens, a chat template."""

from __future__ import annotations

from v4deploy.domain.errors import UsageError
from v4deploy.shapes.metadata import Entry, ValueKind

BEGIN = "<|begin|>"
END = "<|end|>"
SYSTEM = "<|system|>"
USER = "<|user|>"
ASSISTANT = "<|assistant|>"
PADDING = "<|padding|>"
CONTROL_TOKENS = (BEGIN, END, SYSTEM, USER, ASSISTANT, PADDING)
BYTE_TOKENS = 256
SMALLEST_VOCABULARY = BYTE_TOKENS + len(CONTROL_TOKENS)

# GGUF token types, from the format's description: what may be printed, what steers, what no text ever becomes.
_NORMAL, _CONTROL, _UNUSED = 1, 3, 5

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message.role == 'system' %}" + SYSTEM + "{{ message.content }}"
    "{% elif message.role == 'assistant' %}" + ASSISTANT + "{{ message.content }}" + END + "{% else %}"
    "" + USER + "{{ message.content }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}" + ASSISTANT + "{% endif %}"
)


def byte_symbols() -> tuple[str, ...]:
    """The printable character that stands for each byte in GPT-2's byte-level alphabet.

    Bytes that are visible in Latin-1 stand for themselves; the others take the code points from 256 on, in order.
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    symbols, next_free = [], 256
    for byte in range(BYTE_TOKENS):
        if byte in visible:
            symbols.append(chr(byte))
        else:
            symbols.append(chr(next_free))
            next_free += 1
    return tuple(symbols)


def tokenizer(vocabulary: int) -> tuple[Entry, ...]:
    """The tokenizer's pairs, filled up to `vocabulary` tokens with ones that no text becomes.

    Raises:
        UsageError: fewer tokens than bytes and control tokens.
    """
    if vocabulary < SMALLEST_VOCABULARY:
        raise UsageError(f"a vocabulary of {vocabulary} is too small; {SMALLEST_VOCABULARY} is the least")
    unused = tuple(f"<|unused{number}|>" for number in range(vocabulary - SMALLEST_VOCABULARY))
    types = (_NORMAL,) * BYTE_TOKENS + (_CONTROL,) * len(CONTROL_TOKENS) + (_UNUSED,) * len(unused)
    ids = {token: BYTE_TOKENS + place for place, token in enumerate(CONTROL_TOKENS)}
    symbols = byte_symbols()
    prefix = "tokenizer.ggml."
    return (
        Entry(key=f"{prefix}model", kind=ValueKind.STRING, value="gpt2"),
        Entry(key=f"{prefix}pre", kind=ValueKind.STRING, value="gpt-2"),
        Entry(key=f"{prefix}tokens", kind=ValueKind.ARRAY, value=(*symbols, *CONTROL_TOKENS, *unused)),
        Entry(key=f"{prefix}token_type", kind=ValueKind.ARRAY, value=types),
        # The loader refuses a `gpt2` vocabulary without merges; a pair of blanks is the one that shortens most prompts.
        Entry(key=f"{prefix}merges", kind=ValueKind.ARRAY, value=(f"{symbols[0x20]} {symbols[0x20]}",)),
        Entry(key=f"{prefix}bos_token_id", kind=ValueKind.UINT32, value=ids[BEGIN]),
        Entry(key=f"{prefix}eos_token_id", kind=ValueKind.UINT32, value=ids[END]),
        Entry(key=f"{prefix}padding_token_id", kind=ValueKind.UINT32, value=ids[PADDING]),
        Entry(key=f"{prefix}add_bos_token", kind=ValueKind.BOOL, value=True),
        Entry(key="tokenizer.chat_template", kind=ValueKind.STRING, value=CHAT_TEMPLATE),
    )
