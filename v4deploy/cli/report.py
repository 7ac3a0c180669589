"""What a defect of v4deploy looks like: not a bare traceback but a report, ready to send."""

from __future__ import annotations

import os
import platform
import traceback
from collections.abc import Sequence

from v4deploy import __version__
from v4deploy.domain.errors import V4DeployError
from v4deploy.system.redact import Redactor


def unexpected(error: Exception, arguments: Sequence[str]) -> V4DeployError:
    """An error whose details are the report; names, home paths and tokens are taken out."""
    redactor = Redactor(host_name=platform.node(), user_name=os.environ.get("USER"), home=os.environ.get("HOME"))
    trace = "".join(traceback.format_exception(error))
    lines = [
        f"v4deploy {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"command: v4deploy {' '.join(arguments)}",
        *trace.rstrip().splitlines(),
    ]
    return V4DeployError(
        redactor.text(f"this is a defect of v4deploy: {type(error).__name__}: {error}"),
        hint="send the lines above, together with the output of `v4deploy doctor --json`, as a bug report",
        details=tuple(redactor.text("\n".join(lines)).splitlines()),
    )
