from __future__ import annotations

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.domain.errors import UsageError
from v4deploy.shapes.tokenizer import (
    ASSISTANT,
    BEGIN,
    CHAT_TEMPLATE,
    CONTROL_TOKENS,
    END,
    SMALLEST_VOCABULARY,
    SYSTEM,
    USER,
    byte_symbols,
    tokenizer,
)


def test_every_byte_has_its_own_printable_symbol() -> None:
    symbols = byte_symbols()
    assert len(set(symbols)) == 256
    assert all(symbol.isprintable() and not symbol.isspace() for symbol in symbols)
    assert (symbols[ord("A")], symbols[ord(" ")], symbols[ord("\n")]) == ("A", "Ġ", "Ċ")


@given(st.integers(SMALLEST_VOCABULARY, 2_000))
def test_lists_are_as_long_as_the_vocabulary(vocabulary: int) -> None:
    values = {entry.key: entry.value for entry in tokenizer(vocabulary)}
    tokens, types = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    assert isinstance(tokens, tuple)
    assert isinstance(types, tuple)
    assert len(tokens) == len(types) == len(set(tokens)) == vocabulary


def test_special_ids_point_at_their_tokens() -> None:
    values = {entry.key: entry.value for entry in tokenizer(SMALLEST_VOCABULARY)}
    tokens = values["tokenizer.ggml.tokens"]
    begin, end = values["tokenizer.ggml.bos_token_id"], values["tokenizer.ggml.eos_token_id"]
    assert isinstance(tokens, tuple)
    assert isinstance(begin, int)
    assert isinstance(end, int)
    assert (tokens[begin], tokens[end]) == (BEGIN, END)
    assert tokens[256:] == CONTROL_TOKENS


def test_too_small_a_vocabulary_is_refused() -> None:
    with pytest.raises(UsageError, match=str(SMALLEST_VOCABULARY)):
        tokenizer(SMALLEST_VOCABULARY - 1)


def test_the_template_writes_a_dialogue() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
        {"role": "user", "content": "bye"},
    ]
    template = jinja2.Environment(autoescape=False).from_string(CHAT_TEMPLATE)  # noqa: S701 - no HTML
    text = template.render(messages=messages, bos_token=BEGIN, add_generation_prompt=True)
    assert text == f"{BEGIN}{SYSTEM}be brief{USER}hi{ASSISTANT}ho{END}{USER}bye{ASSISTANT}"
