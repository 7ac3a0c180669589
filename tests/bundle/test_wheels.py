from __future__ import annotations

import pytest

from v4deploy.bundle.wheels import requirement_of

URL = "https://git.example/v4deploy.git"


@pytest.mark.parametrize(
    ("origin", "asked"),
    [
        ({}, "v4deploy[embedded]==1.2"),
        ({"url": "file:///srv/a%20b", "dir_info": {"editable": True}}, "/srv/a b[embedded]"),
        ({"url": f"{URL}.whl", "archive_info": {}}, f"v4deploy[embedded] @ {URL}.whl"),
        ({"url": URL, "vcs_info": {"vcs": "git", "commit_id": "abc"}}, f"v4deploy[embedded] @ git+{URL}@abc"),
    ],
    ids=["index", "directory", "archive", "repository"],
)
def test_wheels_are_made_from_where_v4deploy_was_installed(origin: dict[str, object], asked: str) -> None:
    assert requirement_of(origin, extras="[embedded]", version="1.2") == asked
