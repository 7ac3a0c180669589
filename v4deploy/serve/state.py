"""The states of a served engine, and which may follow which. Pure: no clock, no process."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class State(StrEnum):
    """What an engine is doing.

    STARTING: the process runs, its port is closed. LOADING: it answers that it is not ready, or is being given
    the model. WARMING: health is good,
    and it is being asked. READY: a completion came back, and the smoke test found nothing wrong. DEGRADED: was ready,
    fails its health checks. STOPPING: it was asked to end. STOPPED: it ended because it was asked. FAILED: it ended, or
    was given up, by itself.
    """

    STARTING = "starting"
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DEGRADED = "degraded"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class Observation(StrEnum):
    """What was seen of the engine, or asked of it.

    CLOSED: its port refuses. BUSY: it answers 503. HEALTHY: it answers 200 on its health path. UNHEALTHY: it was
    ready before and fails several health checks in a row. ANSWERED: a completion with content came back. NO_ANSWER:
    a completion failed or was empty. UNSOUND: completions come back, and the smoke test failed. EXITED: its process
    ended. REJECTED: it will not take the model that it is given. STOP_ASKED: somebody wants it to end. GIVEN_UP: time
    or patience is over.
    """

    CLOSED = "closed"
    BUSY = "busy"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    ANSWERED = "answered"
    NO_ANSWER = "no-answer"
    UNSOUND = "unsound"
    EXITED = "exited"
    REJECTED = "rejected"
    STOP_ASKED = "stop-asked"
    GIVEN_UP = "given-up"


ENDED = frozenset({State.STOPPED, State.FAILED})

_ANY_LIVE: Mapping[Observation, State] = {
    Observation.STOP_ASKED: State.STOPPING,
    Observation.EXITED: State.FAILED,
    Observation.GIVEN_UP: State.FAILED,
}
_CHANGES: Mapping[State, Mapping[Observation, State]] = {
    State.STARTING: {**_ANY_LIVE, Observation.BUSY: State.LOADING, Observation.HEALTHY: State.WARMING},
    State.LOADING: {**_ANY_LIVE, Observation.HEALTHY: State.WARMING, Observation.REJECTED: State.FAILED},
    # Back to loading: a server that loads on demand is healthy before it has a model.
    State.WARMING: {
        **_ANY_LIVE,
        Observation.BUSY: State.LOADING,
        Observation.ANSWERED: State.READY,
        Observation.UNSOUND: State.FAILED,
        Observation.UNHEALTHY: State.DEGRADED,
    },
    State.READY: {
        Observation.STOP_ASKED: State.STOPPING,
        Observation.EXITED: State.FAILED,
        Observation.UNHEALTHY: State.DEGRADED,
    },
    # Not straight back to ready: only a completion makes ready.
    State.DEGRADED: {
        Observation.STOP_ASKED: State.STOPPING,
        Observation.EXITED: State.FAILED,
        Observation.HEALTHY: State.WARMING,
    },
    State.STOPPING: {Observation.EXITED: State.STOPPED},
    State.STOPPED: {},
    State.FAILED: {},
}


def after(state: State, observation: Observation) -> State:
    """The next state; the same one where the observation changes nothing."""
    return _CHANGES[state].get(observation, state)
