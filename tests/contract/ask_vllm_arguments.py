"""Asks the vLLM that runs this file what it makes of command lines. Cases come as JSON on stdin, answers go to stdout.

The engine's own: the parser of `vllm serve` with its reader of YAML files, the command's validation, and the server's
before it opens its port. A case is
`{"arguments": [...]}`; paths of YAML files are among the arguments, as on a real command line.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import io
import json
import logging
import sys
from collections.abc import Iterable
from typing import Any


def main() -> None:
    logging.disable(logging.CRITICAL)
    cases = json.load(sys.stdin)
    _pass_for_a_cpu_build()
    parser, serve = _parser()
    check = _check_server()
    answers = [_answer(parser, (serve.validate, check), case["arguments"]) for case in cases]
    # vLLM writes to standard output while it is imported; the answer is the last line.
    sys.stdout.write("\n" + json.dumps([_flags(parser), *answers]) + "\n")


def _pass_for_a_cpu_build() -> None:
    """The newest release has no repack for CPUs, and a build for CUDA refuses to make its parser without a GPU."""
    read = importlib.metadata.version
    vars(importlib.metadata)["version"] = lambda name: f"{_own_version()}+cpu" if name == "vllm" else read(name)


def _own_version() -> str:
    return str(importlib.import_module("vllm.version").__version__)


def _parser() -> tuple[Any, Any]:
    """As vLLM's own `main` makes them, with one subcommand."""
    kind = importlib.import_module("vllm.utils.argparse_utils").FlexibleArgumentParser
    serve = importlib.import_module("vllm.entrypoints.cli.serve").ServeSubcommand()
    parser = kind(description="vLLM CLI")
    serve.subparser_init(parser.add_subparsers(required=False, dest="subparser"))
    return parser, serve


def _flags(parser: Any) -> dict[str, list[str]]:
    """Every long flag that it takes, also those that its help no longer names; and those that negate no other."""
    (subcommands,) = [action for action in parser._actions if getattr(action, "choices", None)]
    serve = subcommands.choices["serve"]
    named = {text for action in serve._actions for text in _positive(action.option_strings)}
    variables = importlib.import_module("vllm.envs").environment_variables
    return {
        "flags": sorted(text for text in serve._option_string_actions if text[:2] == "--"),
        "named": sorted(named),
        "variables": sorted(variables),
    }


def _positive(options: list[str]) -> list[str]:
    """Without `--no-X`, and without `--disable-X` for `--enable-X` and the reverse, which 0.33 has instead."""
    long = [text for text in options if text[:2] == "--"]
    turned = {"--enable-": "--disable-", "--disable-": "--enable-"}
    negations = {f"--no-{text[2:]}" for text in long}
    negations |= {new + long[0][len(old) :] for old, new in turned.items() if long and long[0].startswith(old)}
    return [text for text in long if text not in negations]


def _check_server() -> Any:
    """What the server checks before it opens its port: the names of its parsers for tools and reasoning."""
    for place in ("common.cli_args", "launchers.launcher", "openai.api_server"):
        with contextlib.suppress(ModuleNotFoundError, AttributeError):
            return importlib.import_module(f"vllm.entrypoints.{place}").validate_api_server_args
    raise LookupError("validate_api_server_args is in none of the modules where releases have had it")


def _answer(parser: Any, checks: Iterable[Any], arguments: list[str]) -> dict[str, Any]:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            read = parser.parse_args(["serve", *arguments])
            # As the engine's own reader of these arguments does, before the server checks the name.
            read.structured_outputs_config.reasoning_parser = read.reasoning_parser
            for check in checks:
                check(read)
    except SystemExit:
        return {"refusal": said.getvalue().strip().splitlines()[-1:] or ["it ended without a word"]}
    except Exception as error:  # noqa: BLE001 - whatever it raises is its answer
        return {"refusal": [f"{type(error).__name__}: {error}"]}
    return {"read": {name: _plain(value) for name, value in vars(read).items()}}


def _plain(value: Any) -> Any:
    """A value as JSON has it; configurations as what their author wrote into them."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name, None)) for name in value.__dataclass_fields__}
    return str(value)


if __name__ == "__main__":
    main()
