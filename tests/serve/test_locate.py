from __future__ import annotations

from collections.abc import Callable

import pytest

from v4deploy.domain.engine import LaunchSpec
from v4deploy.domain.errors import LaunchError
from v4deploy.serve.locate import choose_llama_cpp


def test_a_program_on_path_wins() -> None:
    located = choose_llama_cpp(llama_server="/usr/bin/llama-server", wheel_version="2026.10.11549", python="py")
    assert (located.argv_prefix, located.embedded, located.build) == (("/usr/bin/llama-server",), False, None)


def test_else_the_wheel_with_its_build() -> None:
    located = choose_llama_cpp(llama_server=None, wheel_version="2026.10.11549", python="py")
    assert located.argv_prefix == ("py", "-m", "v4deploy.serve.embedded", "--")
    assert (located.embedded, located.build) == (True, "11549")


def test_neither_is_an_error_with_both_ways_out() -> None:
    with pytest.raises(LaunchError) as caught:
        choose_llama_cpp(llama_server=None, wheel_version=None, python="py")
    assert "llama-server" in str(caught.value.hint)
    assert "v4deploy[embedded]" in str(caught.value.hint)


def test_a_launch_keeps_its_arguments(fake: Callable[..., LaunchSpec]) -> None:
    spec = fake("--answer", "x")
    located = choose_llama_cpp(llama_server=None, wheel_version="1.2.3", python="py")
    assert located.launch(spec).argv == ("py", "-m", "v4deploy.serve.embedded", "--", *spec.argv[1:])
