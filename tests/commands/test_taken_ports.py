"""`doctor` sees that an installed engine could not listen on its own port."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.support_checks import catalogue, machine, run, subject
from v4deploy.commands.doctor_subject import taken_ports
from v4deploy.domain.catalogue import Catalogue
from v4deploy.domain.engine import EngineId
from v4deploy.domain.finding import Severity


@pytest.fixture
def held_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def on_port(port: int) -> Catalogue:
    shipped = catalogue()
    return replace(shipped, engines=tuple(replace(engine, default_port=port) for engine in shipped.engines))


def test_a_held_port_is_told_with_its_holder(held_port: int) -> None:
    (taken,) = taken_ports(on_port(held_port), machine(engines={EngineId.LLAMA_CPP: "11434"}))
    assert (taken.engine, taken.port) == (EngineId.LLAMA_CPP, held_port)
    assert f"pid {os.getpid()}" in taken.why
    (finding,) = run("network.port-in-use", subject(taken_ports=(taken,)))
    assert finding.severity is Severity.INFO


def test_a_free_port_is_not_told(held_port: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        free_port = other.getsockname()[1]
    assert free_port != held_port
    assert list(taken_ports(on_port(free_port), machine(engines={EngineId.LLAMA_CPP: "11434"}))) == []


def test_without_engines_no_port_is_asked_for(held_port: int) -> None:
    assert list(taken_ports(on_port(held_port), machine())) == []


def test_somebody_else_on_ollamas_port_is_told(held_port: int) -> None:
    assert [one.port for one in taken_ports(on_port(held_port), machine(engines={EngineId.OLLAMA: "0.33.0"}))] == [
        held_port
    ]
