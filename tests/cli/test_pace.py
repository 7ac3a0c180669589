from __future__ import annotations

from v4deploy.cli.pace import Pace

GB = 10**9


def test_a_slow_transfer_is_told_by_the_clock() -> None:
    pace = Pace(step_percent=25, pause_seconds=30)
    told = [second for second in range(121) if pace.words(second * GB // 100, 892 * GB, float(second))]
    assert told == [0, 30, 60, 90, 120]


def test_a_fast_transfer_is_told_by_its_steps() -> None:
    pace = Pace(step_percent=25, pause_seconds=30)
    lines = [pace.words(done, 100, done / 1000) for done in range(101)]
    assert sum(line is not None for line in lines) == 5


def test_rate_and_time_left_stand_in_the_line() -> None:
    pace = Pace()
    pace.words(0, 100 * GB, 0.0)
    assert pace.words(30 * GB, 100 * GB, 100.0) == " 30 %  30.0 GB of 100.0 GB  300.0 MB/s, 0:03:53 left"


def test_what_was_there_before_does_not_count_as_speed() -> None:
    pace = Pace()
    pace.words(50 * GB, 100 * GB, 0.0)
    assert pace.words(60 * GB, 100 * GB, 100.0) == " 60 %  60.0 GB of 100.0 GB  100.0 MB/s, 0:06:40 left"


def test_a_new_transfer_begins_anew() -> None:
    pace = Pace()
    pace.words(0, 100, 0.0)
    pace.words(100, 100, 5.0)
    assert pace.words(0, 1000, 5.1) is not None
