"""The way through a SOCKS 5 proxy, such as `ssh -D` opens (RFC 1928, RFC 1929)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote

from v4deploy.pull import failures

if TYPE_CHECKING:
    from socksio import socks5

# The API client asks the proxy to resolve names for both, so files go the same way as their listing.
SCHEMES = frozenset({"socks5", "socks5h"})
DEFAULT_PORT = 1080
# Of the reply to a connection request, before the address; what follows depends on the address's type.
_HEAD_BYTES = 4


def reach(connected: socket.socket, proxy: SplitResult, host: str, port: int) -> None:
    """Have the proxy at the other end of a fresh connection connect on to a server, whose name it resolves itself.

    Raises:
        OSError: the proxy does not let us in, or cannot reach the server; or it is no SOCKS 5 proxy.
        DownloadError: its name or password is too long to be sent.
    """
    from socksio import ProtocolError, socks5

    conversation = socks5.SOCKS5Connection()
    try:
        _be_let_in(connected, conversation, proxy)
        conversation.send(socks5.SOCKS5CommandRequest.from_address(socks5.SOCKS5Command.CONNECT, (host, port)))
        connected.sendall(conversation.data_to_send())
        reply = conversation.receive_data(_reply(connected))
    except ProtocolError as error:
        raise OSError(0, "the proxy does not speak SOCKS 5") from error
    except OverflowError as error:
        raise failures.unsendable_password() from error
    assert isinstance(reply, socks5.SOCKS5Reply), "what follows on a connection request"
    if reply.reply_code is not socks5.SOCKS5ReplyCode.SUCCEEDED:
        raise OSError(0, f"the SOCKS proxy says: {reply.reply_code.name.replace('_', ' ').lower()}")


def _be_let_in(connected: socket.socket, conversation: socks5.SOCKS5Connection, proxy: SplitResult) -> None:
    from socksio import socks5

    methods = [socks5.SOCKS5AuthMethod.NO_AUTH_REQUIRED]
    if proxy.username is not None:
        methods.append(socks5.SOCKS5AuthMethod.USERNAME_PASSWORD)
    conversation.send(socks5.SOCKS5AuthMethodsRequest(methods))
    connected.sendall(conversation.data_to_send())
    conversation.receive_data(_exactly(connected, 2))
    if conversation.state is socks5.SOCKS5State.CLIENT_WAITING_FOR_USERNAME_PASSWORD:
        name, password = unquote(proxy.username or "").encode(), unquote(proxy.password or "").encode()
        conversation.send(socks5.SOCKS5UsernamePasswordRequest(name, password))
        connected.sendall(conversation.data_to_send())
        conversation.receive_data(_exactly(connected, 2))
    if conversation.state is not socks5.SOCKS5State.CLIENT_AUTHENTICATED:
        raise OSError(0, "the SOCKS proxy does not let us in")


def _reply(connected: socket.socket) -> bytes:
    head = _exactly(connected, _HEAD_BYTES)
    match head[3]:
        case 1:
            rest = _exactly(connected, 4 + 2)
        case 3:
            length = _exactly(connected, 1)
            rest = length + _exactly(connected, length[0] + 2)
        case 4:
            rest = _exactly(connected, 16 + 2)
        case _:
            raise OSError(0, "the proxy does not speak SOCKS 5")
    return head + rest


def _exactly(connected: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connected.recv(count - len(data))
        if not more:
            raise OSError(0, "the SOCKS proxy closed the connection")
        data += more
    return data
