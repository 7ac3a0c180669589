"""Signals that are taken over for a while, and given back."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from v4deploy.serve.signals import held_back, interrupts, raised_as_interrupt


@pytest.fixture
def no_hangups() -> Iterator[None]:
    """As under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("no_hangups")
def test_what_we_were_told_to_ignore_stays_ignored() -> None:
    stop = threading.Event()
    with raised_as_interrupt(), interrupts(stop) as signals:
        signal.raise_signal(signal.SIGHUP)
        assert not stop.is_set()
        assert signals.count == 0
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_wish_for_an_end_is_an_interrupt_and_only_for_the_block(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), raised_as_interrupt():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_clean_up_is_finished_before_the_interrupt(tmp_path: Path) -> None:
    def clean_up() -> None:
        with held_back():
            signal.raise_signal(signal.SIGTERM)
            (tmp_path / "cleaned").touch()

    with pytest.raises(KeyboardInterrupt):
        clean_up()
    assert (tmp_path / "cleaned").exists()
