"""From what was typed to the weights that are to be pulled. Apart, as `plan` needs nothing of pulling."""

from __future__ import annotations

from pathlib import Path

from v4deploy.cli.options import DEFAULT_MODEL
from v4deploy.cli.requests import Wish, planned
from v4deploy.commands.pull import PullChoice, choice_of, choose_checkpoint
from v4deploy.commands.workspace import Workspace
from v4deploy.domain.errors import NothingFitsError
from v4deploy.domain.plan import Plan


def choose_weights(workspace: Workspace, wish: Wish, plan_file: Path | None) -> PullChoice:
    """What to pull: a plan's weights, those that were named, or those that the plan for this machine chooses.

    Raises:
        UsageError: an unknown name, or a plan file and a name.
        NothingFitsError: nothing was named, and nothing fits this machine.
    """
    return weights_and_plan(workspace, wish, plan_file)[0]


def weights_and_plan(workspace: Workspace, wish: Wish, plan_file: Path | None) -> tuple[PullChoice, Plan | None]:
    """The same with the plan that chose them; None where the weights were named.

    Raises:
        UsageError, NothingFitsError: as `choose_weights`.
    """
    model = DEFAULT_MODEL if wish.model is None else wish.model
    named = wish.quant is not None or wish.repo is not None or "/" in model
    if plan_file is None and named:
        return choose_checkpoint(workspace, model=model, quant=wish.quant, repo=wish.repo), None
    try:
        plan = planned(workspace, wish, plan_file)
        return choice_of(plan), plan
    except NothingFitsError as error:
        hint = f"to fetch weights for another machine, name them: `v4deploy pull {model} --quant native`"
        raise NothingFitsError(error.message, hint=hint) from error
