"""Calls into vendors' C libraries, for the reader modules that run as child processes.

Every answer is `{"value": ...}` or `{"error": text, "code": the library's number or null}`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Answer = dict[str, Any]


class NativeError(Exception):
    """A call that returned another status than success."""

    def __init__(self, code: int | None, text: str) -> None:
        super().__init__(text)
        self.code = code


def ask(question: Callable[[], Any]) -> Answer:
    """The answer to one question; its failure costs no other."""
    try:
        return {"value": question()}
    except NativeError as error:
        return {"error": str(error), "code": error.code}
    except (AttributeError, ValueError) as error:  # an older library, or text that is none
        return {"error": f"{type(error).__name__}: {error}", "code": None}


def load_first(names: Sequence[str]) -> tuple[Any, str]:
    """The first library that the loader finds; else None, and the loader's words about the first name."""
    errors = []
    for name in names:
        try:
            return ctypes.CDLL(name), ""
        except OSError as error:
            errors.append(str(error))
    return None, errors[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """A library whose functions return a status of 0 and write into pointers.

    `error_name` gives the library's own word for a status.
    """

    library: Any
    error_name: Callable[[Any, int], str]

    def call(self, function: str, *arguments: Any) -> bool:
        """True.

        Raises:
            NativeError: the status was another than 0.
            AttributeError: the library has no such function.
        """
        status = getattr(self.library, function)(*arguments)
        if status:
            raise NativeError(status, self.error_name(self.library, status))
        return True

    def number(self, function: str, *arguments: Any) -> int:
        """What a function writes into its first argument, an int."""
        number = ctypes.c_int()
        self.call(function, ctypes.byref(number), *arguments)
        return number.value

    def size(self, function: str, *arguments: Any) -> int:
        """What a function writes into its first argument, a size_t."""
        size = ctypes.c_size_t()
        self.call(function, ctypes.byref(size), *arguments)
        return size.value

    def text(self, function: str, length: int, *arguments: Any) -> str:
        """What a function writes into its first argument, a buffer, whose length is its second."""
        text = ctypes.create_string_buffer(length)
        self.call(function, text, length, *arguments)
        return text.value.decode(errors="replace")
