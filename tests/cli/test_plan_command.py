"""`plan` as a user meets it: hardware that is not here, and answers that are "no"."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support_cli import V4Deploy
from v4deploy.domain.errors import ExitCode

SMALL = "cpu 16GB"
RECORDINGS = Path(__file__).parents[1] / "recordings"


def test_a_large_server_gets_the_native_pro(v4deploy: V4Deploy) -> None:
    ran = v4deploy("plan", "v4-pro", "--hardware", "8x h200 + 2TB", "--json")
    chosen = ran.document["data"]["chosen"]
    assert ran.code == ExitCode.OK
    assert (chosen["checkpoint"]["quant"], chosen["engine"]) == ("native", "vllm")
    assert len(chosen["layout"]["device_indices"]) == 8


def test_a_mac_gets_the_lossless_gguf(v4deploy: V4Deploy) -> None:
    chosen = v4deploy("plan", "v4-flash", "--hardware", "m3-ultra 256GB", "--json").document["data"]["chosen"]
    assert (chosen["checkpoint"]["quant"], chosen["engine"], chosen["compute_api"]) == (
        "UD-Q8_K_XL",
        "llama.cpp",
        "metal",
    )


def test_ascend_gets_weights_that_its_chips_can_run(v4deploy: V4Deploy) -> None:
    chosen = v4deploy("plan", "--hardware", "8x ascend-910b3", "--json").document["data"]["chosen"]
    assert (chosen["checkpoint"]["quant"], chosen["engine"]) == ("w8a8", "mindie")


def test_what_does_not_fit_ends_with_3_and_says_what_is_missing(v4deploy: V4Deploy) -> None:
    ran = v4deploy("plan", "v4-flash", "--hardware", SMALL)
    assert ran.code == ExitCode.NOTHING_FITS
    assert "nearest misses" in ran.stdout
    assert "GiB" in ran.stdout
    assert "what would fit" in ran.stdout
    assert "hint:" in ran.stderr


def test_a_failed_plan_in_json_still_carries_the_misses(v4deploy: V4Deploy) -> None:
    document = v4deploy("plan", "v4-flash", "--hardware", SMALL, "--json").document
    assert document["ok"] is False
    assert document["error"]["code"] == "nothing-fits"
    assert document["data"]["nearest"]
    assert document["data"]["advice"]


def test_an_alias_says_what_it_resolved_to_and_why(v4deploy: V4Deploy) -> None:
    ran = v4deploy("plan", "v4-flash", "--hardware", "m3-ultra 256GB", "--quant", "q4_k_m")
    assert "`q4_k_m` means UD-Q4_K_XL" in ran.stdout
    ran = v4deploy("plan", "v4-flash", "--hardware", SMALL, "--quant", "q4_k_m")
    assert ran.code == ExitCode.NOTHING_FITS
    assert "`q4_k_m` means UD-Q4_K_XL" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("plan", "v4-flahs"), "`v4-flash`"),
        (("plan", "v4-flash", "--quant", "q4_k_n", "--hardware", SMALL), "q4_k_m"),
        (("plan", "v4-flash", "--engine", "vlm"), "vllm"),
        (("plan", "v4-flash", "--hardware", "8x h2000"), "h200"),
        (("plan", "v4-flash", "--context", "lots"), "128k"),
        (("plan", "--nope"), "v4deploy plan --help"),
        (("planned",), "plan"),
    ],
)
def test_wrong_words_end_with_2_and_the_nearest_right_one(
    v4deploy: V4Deploy, arguments: tuple[str, ...], expected: str
) -> None:
    ran = v4deploy(*arguments)
    assert ran.code == ExitCode.USAGE
    assert expected in ran.stderr
    assert ran.stdout == ""


def test_usage_errors_are_json_too(v4deploy: V4Deploy) -> None:
    document = v4deploy("plan", "v4-flahs", "--json").document
    assert document["schema"] == "v4deploy.plan/1"
    assert document["error"]["code"] == "usage"


def test_a_misspelt_command_is_no_kind_of_document(v4deploy: V4Deploy) -> None:
    assert v4deploy("plna", "--json").document["schema"] == "v4deploy.error/1"


def test_the_same_hardware_gives_the_same_plan(v4deploy: V4Deploy) -> None:
    arguments = ("plan", "v4-flash", "--hardware", "2x rtx-4090 + 192GB", "--json")
    assert v4deploy(*arguments).stdout == v4deploy(*arguments).stdout


def test_a_hub_id_narrows_the_plan_to_its_repository(v4deploy: V4Deploy) -> None:
    repository = "unsloth/DeepSeek-V4-Flash-0731-GGUF"
    chosen = v4deploy("plan", repository, "--hardware", "8x h200 + 1TB", "--json").document["data"]["chosen"]
    assert (chosen["checkpoint"]["repo"], chosen["engine"]) == (repository, "llama.cpp")


@pytest.mark.parametrize("machine", ["hgx-h200-x8-fabric-in-progress", "driver-upgraded-without-reboot"])
def test_devices_that_are_broken_are_not_passed_over_in_silence(v4deploy: V4Deploy, machine: str) -> None:
    ran = v4deploy("plan", "--system", str(RECORDINGS / machine), "--json")
    findings = {finding["id"]: finding for finding in ran.document["findings"]}
    assert findings["plan.devices-not-usable"]["fix"]
    assert "not usable" in v4deploy("plan", "--system", str(RECORDINGS / machine)).stdout


def test_memory_that_is_merely_in_use_is_the_first_thing_to_free(v4deploy: V4Deploy) -> None:
    document = v4deploy("plan", "--system", str(RECORDINGS / "mac-m3-max-128gb-host"), "--json").document
    ids = [finding["id"] for finding in document["data"]["advice"]]
    assert "plan.fits-with-freed-memory" in ids


def test_a_preference_changes_the_choice(v4deploy: V4Deploy) -> None:
    ran = v4deploy("plan", "v4-flash", "--hardware", "8x h200 + 1TB", "--prefer", "concurrency", "--json")
    chosen = ran.document["data"]["chosen"]
    assert ran.code == ExitCode.OK
    assert chosen["layout"]["data_parallel"] == 8
    assert chosen["concurrency"] > 64
    assert ran.document["data"]["request"]["prefer"] == "concurrency"


def test_why_not_answers_in_words_and_as_a_document(v4deploy: V4Deploy) -> None:
    arguments = ("plan", "v4-flash", "--hardware", "8x h200 + 1TB", "--why-not", "nvfp4")
    ran = v4deploy(*arguments)
    assert ran.code == ExitCode.OK
    assert "this is sm_90" in ran.stdout
    document = v4deploy(*arguments, "--json").document
    assert document["schema"] == "v4deploy.why-not/1"
    assert document["data"]["answers"][0]["reasons"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--prefer", "cheap"), "cheap"),
        (("--layout", "tpx"), "is no layout"),
        (("--why-not", "nonsense"), "no engine, no layout and no quant"),
    ],
)
def test_wrong_words_are_usage_errors(v4deploy: V4Deploy, arguments: tuple[str, str], words: str) -> None:
    ran = v4deploy("plan", "v4-flash", "--hardware", "8x h200 + 1TB", *arguments)
    assert ran.code == ExitCode.USAGE
    assert words in ran.stderr


def test_explained_plans_list_every_reason(v4deploy: V4Deploy) -> None:
    plain = v4deploy("plan", "v4-flash", "--hardware", "8x h200 + 1TB").stdout
    explained = v4deploy("plan", "v4-flash", "--hardware", "8x h200 + 1TB", "--explain").stdout
    assert "--explain" in plain
    assert "left free" in explained
    assert len(explained.splitlines()) > len(plain.splitlines())


def test_a_plan_says_how_fast_it_would_be_and_why(v4deploy: V4Deploy) -> None:
    ran = v4deploy("plan", "--hardware", "8x h200 + 2TB", "--concurrency", "4")
    assert "tokens/s" in ran.stdout
    assert "3 published runs of sglang on h200, h100" in ran.stdout
    assert "each of 4" in ran.stdout


def test_a_speed_that_nobody_published_is_unknown_with_the_reason(v4deploy: V4Deploy) -> None:
    ran = v4deploy("plan", "--hardware", "rtx-4090 + 128GB", "--json")
    figure = ran.document["data"]["speed"]["single_tokens_per_second"]
    assert (figure["low"], figure["high"]) == (None, None)
    assert "host memory" in figure["reason"]
