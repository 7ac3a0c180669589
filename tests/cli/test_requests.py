from __future__ import annotations

from pathlib import Path

import pytest

from v4deploy.catalogue.load import load_catalogue
from v4deploy.cli.requests import make_request, parse_tokens
from v4deploy.domain.catalogue import Catalogue
from v4deploy.domain.errors import UsageError


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue([Path(__file__).parents[2] / "profiles"])


@pytest.mark.parametrize(("text", "tokens"), [("4096", 4096), ("128k", 131_072), ("1M", 1_048_576), (" 8K ", 8192)])
def test_tokens_as_people_type_them(text: str, tokens: int) -> None:
    assert parse_tokens(text) == tokens


@pytest.mark.parametrize("text", ["0", "", "-1", "1.5k", "many"])
def test_what_is_no_number_of_tokens_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a number of tokens"):
        parse_tokens(text)


def test_a_bare_model_means_its_current_release(catalogue: Catalogue) -> None:
    request = make_request(catalogue, model="v4-flash")
    assert (request.model, request.release) == ("v4-flash", "v4-flash-0731")


def test_a_dated_release_pins_it(catalogue: Catalogue) -> None:
    assert make_request(catalogue, model="v4-flash-preview").release == "v4-flash-preview"


def test_a_hub_id_works_too(catalogue: Catalogue) -> None:
    assert make_request(catalogue, model="deepseek-ai/DeepSeek-V4-Pro-0813").release == "v4-pro-0813"


def test_an_unknown_model_gets_the_nearest_names(catalogue: Catalogue) -> None:
    with pytest.raises(UsageError) as caught:
        make_request(catalogue, model="v4-flahs")
    assert "`v4-flash`" in (caught.value.hint or "")
    assert "v4-pro" in caught.value.details[0]


def test_more_context_than_the_model_was_made_for_is_refused(catalogue: Catalogue) -> None:
    with pytest.raises(UsageError, match="1,048,576"):
        make_request(catalogue, model="v4-flash", context="2m")
