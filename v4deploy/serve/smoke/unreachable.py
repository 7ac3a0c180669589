"""Why an endpoint could not be asked at all: what the network, TLS or HTTP said, in words and with what to do. Pure."""

from __future__ import annotations

import http.client
import socket
import ssl

from v4deploy.domain.errors import CheckFailedError, NotReadyError, V4DeployError
from v4deploy.serve.smoke.text import shortened
from v4deploy.serve.wire import Endpoint

# Of OpenSSL's x509_vfy.h: mismatch of hostname, e-mail and IP address; not valid yet, and no more.
_WRONG_NAME, _WRONG_TIME = (62, 63, 64), (9, 10)


def unreachable(endpoint: Endpoint, error: Exception, *, cert_file: str | None) -> V4DeployError:
    """What to tell of an exception of the socket or of `http.client`; a timeout is told by who knows its length.

    Args:
        endpoint: that was asked.
        error: what came.
        cert_file: the value of SSL_CERT_FILE, which names whom OpenSSL trusts; None where it is not set.
    """
    url, said = endpoint.base_url, shortened(str(error) or type(error).__name__)
    match error:
        case ssl.SSLCertVerificationError():
            return _untrusted(url, error, cert_file)
        case ssl.SSLError():
            plain = url.replace("https:", "http:", 1)
            return CheckFailedError(
                f"{url} does not speak TLS as this machine does: {getattr(error, 'reason', None) or said}",
                hint=f"a server without TLS is asked at `{plain}`",
            )
        case socket.gaierror():
            return NotReadyError(
                f"{url} cannot be asked: the name `{endpoint.host}` leads nowhere: {error.strerror}",
                hint="is it written right, and known on this machine?",
            )
        case ConnectionRefusedError():
            return NotReadyError(f"{url} cannot be asked: {said}", hint="is the server up?")
        case http.client.HTTPException() | ConnectionError():
            tls = "" if endpoint.is_tls else f" A server with TLS is asked at `{url.replace('http:', 'https:', 1)}`"
            return NotReadyError(
                f"{url} does not answer in HTTP: {said}", hint=f"is this the port of the server's API?{tls}"
            )
        case _:
            return NotReadyError(f"{url} cannot be asked: {said}", hint="is the server up, and the way to it open?")


def _untrusted(url: str, error: ssl.SSLCertVerificationError, cert_file: str | None) -> V4DeployError:
    message = f"the certificate of {url} is not trusted: {error.verify_message}"
    if error.verify_code in _WRONG_NAME:
        return CheckFailedError(message, hint="ask it by a name that its certificate holds")
    if error.verify_code in _WRONG_TIME:
        return CheckFailedError(message, hint="it has to be renewed, unless the clock of this machine is wrong: `date`")
    tried = f"; SSL_CERT_FILE is `{cert_file}`, which does not help" if cert_file else ""
    return CheckFailedError(
        f"{message}{tried}",
        hint="if you trust it, name the certificate that it is signed with: `SSL_CERT_FILE=FILE v4deploy smoke ...`",
    )
