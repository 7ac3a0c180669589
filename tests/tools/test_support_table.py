from __future__ import annotations

from tests.planning.support import catalogue
from tools.support_table import PAGE, TIERS, TRIED, page
from v4deploy.domain.engine import EngineId, SupportLevel


def test_the_page_is_what_the_profiles_say() -> None:
    assert PAGE.read_text() == page(catalogue()), "make support-table writes it anew"


def test_every_engine_says_what_was_tried_and_nothing_is_claimed_where_nothing_runs() -> None:
    assert set(TRIED) == set(EngineId)
    runs = {
        (profile.id, row.compute_api)
        for profile in catalogue().engines
        for row in profile.support
        if row.level is not SupportLevel.UNSUPPORTED
    }
    assert set(TIERS) <= runs
