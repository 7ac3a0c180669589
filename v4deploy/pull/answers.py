"""What an answer to a request for bytes means: take it, try again, or give up. Reads heads, never bodies."""

from __future__ import annotations

import re
from http import HTTPStatus

from v4deploy.domain.counting import counted
from v4deploy.domain.errors import DownloadError
from v4deploy.pull import failures
from v4deploy.pull.blocks import Span
from v4deploy.pull.download import Job, OneFileError, Source
from v4deploy.pull.retry import TransferError, is_transient, retry_after_seconds
from v4deploy.pull.transport import Answer

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def check(answer: Answer, job: Job, source: Source, span: Span) -> bool:
    """Whether the body is the span that was asked for; False when it is the whole file, from its beginning.

    Raises:
        TransferError: neither; worth another try.
        DownloadError: neither, and another try will not help.
    """
    if answer.status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
        raise _refusal(answer, job, source)
    _check_content(answer, job, source)
    size_bytes = job.file.size_bytes
    if answer.status == HTTPStatus.OK:
        _check_length(answer, size_bytes)
        return False
    text = answer.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(text)
    if match is None or int(match[1]) != span.first_byte or match[3] not in {"*", str(size_bytes)}:
        raise TransferError(f"asked for bytes from {span.first_byte} of {size_bytes}, the server sends `{text}`")
    _check_length(answer, span.end_byte - span.first_byte)
    return True


def _check_length(answer: Answer, expected_bytes: int) -> None:
    """A length that is missing is made good by counting; a wrong one tells before the first byte."""
    length = answer.headers.get("Content-Length")
    if length is not None and length != str(expected_bytes):
        raise TransferError(f"the server offers {length} bytes instead of {expected_bytes}")


def _refusal(answer: Answer, job: Job, source: Source) -> Exception:
    may_pass = is_transient(answer.status) or answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    # Outside the hub a refusal means that the signed address has expired; the next try gets a new one.
    if may_pass or not answer.from_hub:
        return TransferError(
            f"HTTP {answer.status}" + ("" if answer.from_hub else f" from the storage server ({answer.host})"),
            status=answer.status,
            retry_after_seconds=retry_after_seconds(answer.headers),
        )
    error = failures.refused(answer.status, repo=job.repo, what=job.file.path, access=source.transport.access)
    if answer.status == HTTPStatus.NOT_FOUND:
        return OneFileError(error.message, hint=error.hint)
    return error


def _check_content(answer: Answer, job: Job, source: Source) -> None:
    encoding = answer.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        raise TransferError(f"the server sends the file as {encoding}, though asked not to")
    declared, expected = answer.declared_sha256, job.file.sha256
    if declared is not None and expected is not None and declared != expected:
        raise OneFileError(
            f"{source.host} offers another file as {job.file.path}: its SHA-256 is {declared}, "
            f"the listing says {expected}",
            hint=f"it is out of step: {failures.another_address(source.transport.access)}, then pull again",
        )


def given_up(fault: TransferError, job: Job, source: Source, tries: int) -> DownloadError:
    """The words for a source that has failed too often in a row."""
    if fault.status == HTTPStatus.TOO_MANY_REQUESTS:
        return failures.too_many_requests(source.transport.access, fault.retry_after_seconds)
    return DownloadError(
        f"{job.file.path} could not be fetched from {source.host} in {counted(tries, 'try', 'tries')}: {fault.reason}",
        hint=f"{_way_out(fault, source)}; then {failures.GO_ON}",
    )


def _way_out(fault: TransferError, source: Source) -> str:
    if fault.status is None:
        return "check the network"
    if fault.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"wait, or {failures.another_address(source.transport.access)}"
    return f"a proxy or firewall may refuse that host: allow it, or {failures.another_address(source.transport.access)}"


def wrong_content(job: Job, found: list[tuple[Source, str]]) -> OneFileError:
    """The words for bytes that came whole, and again, and are not what was listed: source and hash of each try."""
    words = dict.fromkeys(f"{content_hash} from {source.host}" for source, content_hash in found)
    ways_out = dict.fromkeys(failures.another_address(source.transport.access) for source, _ in found)
    tries = " and then ".join(words)
    return OneFileError(
        f"{job.file.path} is not what the listing promises: expected hash {job.file.expected_hash}, found {tries}",
        hint=f"a proxy or mirror changes the bytes: {', '.join(ways_out)}, then pull again",
    )
