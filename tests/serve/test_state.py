from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from v4deploy.serve.state import ENDED, Observation, State, after

_LIVE = [state for state in State if state not in ENDED]
_walks = st.lists(st.sampled_from(Observation), max_size=30)


def _walk(observations: list[Observation]) -> list[State]:
    states = [State.STARTING]
    for observation in observations:
        states.append(after(states[-1], observation))
    return states


def test_the_usual_way_up_and_down() -> None:
    seen = _walk(
        [
            Observation.CLOSED,
            Observation.BUSY,
            Observation.HEALTHY,
            Observation.ANSWERED,
            Observation.UNHEALTHY,
            Observation.HEALTHY,
            Observation.ANSWERED,
            Observation.STOP_ASKED,
            Observation.EXITED,
        ]
    )
    assert [state.value for state in seen] == [
        "starting", "starting", "loading", "warming", "ready", "degraded", "warming", "ready", "stopping", "stopped",
    ]  # fmt: skip


@given(_walks)
def test_only_an_answer_makes_ready(observations: list[Observation]) -> None:
    states = _walk(observations)
    for before, observation, now in zip(states, observations, states[1:], strict=False):
        if now is State.READY and before is not State.READY:
            assert observation is Observation.ANSWERED


@given(_walks)
def test_stopped_is_reached_only_when_somebody_asked(observations: list[Observation]) -> None:
    if _walk(observations)[-1] is State.STOPPED:
        assert Observation.STOP_ASKED in observations


@given(_walks, st.sampled_from(Observation))
def test_an_end_is_final(observations: list[Observation], more: Observation) -> None:
    last = _walk(observations)[-1]
    if last in ENDED:
        assert after(last, more) is last


@pytest.mark.parametrize("state", _LIVE)
def test_an_exit_ends_every_live_state(state: State) -> None:
    assert after(state, Observation.EXITED) is (State.STOPPED if state is State.STOPPING else State.FAILED)


@pytest.mark.parametrize("state", _LIVE)
def test_a_stop_is_heard_in_every_live_state(state: State) -> None:
    assert after(state, Observation.STOP_ASKED) is State.STOPPING


@given(st.lists(st.sampled_from([seen for seen in Observation if seen is not Observation.EXITED])))
def test_nothing_but_the_exit_ends_stopping(observations: list[Observation]) -> None:
    state = State.STOPPING
    for observation in observations:
        state = after(state, observation)
    assert state is State.STOPPING


def test_a_ready_engine_is_not_given_up_for_being_late() -> None:
    assert after(State.READY, Observation.GIVEN_UP) is State.READY
