"""Is the port free, and if not, who has it."""

from __future__ import annotations

import errno
import socket

import psutil

from v4deploy.domain.errors import LaunchError

_BIND_HINT = "bind to 127.0.0.1 or to an address of this machine"


def require_free_port(bind: str, port: int) -> None:
    """Check that an engine could listen there.

    Without this check an engine may load weights for minutes before it fails, or another server that listens there
    may be taken for ours.

    Raises:
        LaunchError: the port is taken (by whom, where that can be seen), privileged, or the address is not ours.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As engines do it: connections of an earlier run that linger in TIME_WAIT are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((bind, port))
    except OSError as error:
        raise _error(bind, port, error) from error
    except (TypeError, ValueError) as error:
        # What the resolver's encoding says to a name such as `ä..`.
        raise LaunchError(f"`{bind}` is no address: {error}", hint=_BIND_HINT) from error


def holder_of(port: int) -> str | None:
    """The process that listens on a port, as `name (pid N)`; None when that cannot be seen without more rights."""
    try:
        connections = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return None
    for connection in connections:
        local = connection.laddr
        if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.Error:
                return f"pid {connection.pid}"
    return None


def _error(bind: str, port: int, error: OSError) -> LaunchError:
    if error.errno == errno.EADDRINUSE:
        holder = holder_of(port)
        by = f" by {holder}" if holder else ""
        return LaunchError(f"port {port} on {bind} is taken{by}", hint="stop that server, or choose another `--port`")
    if error.errno == errno.EACCES:
        return LaunchError(f"port {port} may be used by root only", hint="choose a `--port` from 1024 on")
    return LaunchError(
        f"no server can listen on {bind}:{port}: {error.strerror or error}",
        hint=_BIND_HINT,
    )
