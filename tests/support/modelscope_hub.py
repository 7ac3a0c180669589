"""A loopback hub that speaks ModelScope's API as its clients describe it, and misbehaves on request."""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.faulty_hub import FaultyHub
from v4deploy.shapes.hub_content import HubFile, HubRepository
from v4deploy.shapes.hub_server import HubHandler, Reply

_API = "/api/v1/models/"
# The commit that last changed a file, which is not the commit that is listed.
_OLDER_COMMIT = "f194f50981eaaa6019bbec5049a4c7e1fd294110"


class FaultyModelScope(FaultyHub):
    """Branches: `master` at the newest commit. Ranges are answered with 200, as ModelScope does it.

    Attributes:
        cookies: what came with each request to the hub's own port.
        changed: put into every file of a listing, to make it wrong.
        entries: how many files a listing pretends to have; None lists what is there.
    """

    partial_status = HTTPStatus.OK

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.cookies: list[str | None] = []
        self.changed: dict[str, Any] = {}
        self.entries: int | None = None

    def serve_hub(self, handler: HubHandler) -> None:
        self.cookies.append(handler.headers.get("Cookie"))
        super().serve_hub(handler)

    def answer(self, url: str) -> Reply | HubFile:
        parts = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        for name, repository in self.repositories.items():
            if parts.path == f"{_API}{name}/commits":
                return self._commits(repository, query.get("Ref", ""))
            if parts.path == f"{_API}{name}/repo/files":
                return self._files(repository, query.get("Revision", "master"))
            if parts.path == f"{_API}{name}/repo":
                return self._file(repository, query)
        return _envelope(None, code=10010205001, message="record not found", status=HTTPStatus.NOT_FOUND)

    def _commits(self, repository: HubRepository, ref: str) -> Reply:
        known = [{"Id": repository.commit, "ShortId": repository.commit[:8], "Title": "upload"}]
        return _envelope({"Commit": known if ref == "master" else None, "TotalCount": int(ref == "master")})

    def _files(self, repository: HubRepository, revision: str) -> Reply:
        if revision not in {"master", repository.commit}:
            return _envelope({"Files": None, "IsVisual": 0, "LatestCommitter": None})
        folders = sorted({str(Path(file.path).parent) for file in repository.files} - {"."})
        entries = [{"Path": path, "Name": path, "Type": "tree", "Size": 0, "Revision": ""} for path in folders]
        entries += [
            {
                "Path": file.path,
                "Name": Path(file.path).name,
                "Type": "blob",
                "Size": file.size_bytes,
                "Sha256": file.sha256,
                "IsLFS": file.is_lfs,
                "Revision": _OLDER_COMMIT,
                **self.changed,
            }
            for file in repository.files
        ]
        if self.entries is not None:
            entries = [entries[-1]] * self.entries
        return _envelope({"Files": entries, "LatestCommitter": {"Id": "", "ShortId": repository.commit[:8]}})

    def _file(self, repository: HubRepository, query: dict[str, str]) -> Reply | HubFile:
        file = repository.file(query.get("FilePath", ""))
        if file is None or query.get("Revision") not in {"master", repository.commit}:
            return _envelope(None, code=10990101007, message="file not found", status=HTTPStatus.NOT_FOUND)
        if not file.is_lfs:
            return file
        headers = (
            ("Location", self.signed_url(file)),
            ("X-Linked-ETag", f'"{self.faults.mirror_hash or file.sha256}"'),
        )
        return Reply(status=HTTPStatus.FOUND, headers=headers)


def _envelope(data: object, *, code: int = 200, message: str = "", status: HTTPStatus = HTTPStatus.OK) -> Reply:
    body = {"Code": code, "Data": data, "Message": message, "RequestId": "r", "Success": code == HTTPStatus.OK}
    return Reply(status=status, headers=(("Content-Type", "application/json"),), body=json.dumps(body).encode())
