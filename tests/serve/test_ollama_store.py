"""What is known of a model in Ollama's store, and what an import still takes: values in, values out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from v4deploy.domain.model_import import ModelImport
from v4deploy.serve.ollama.store import (
    LocalFile,
    Manifest,
    Receipt,
    ReceiptFile,
    Standing,
    judge,
    manifest_path,
    parse_manifest,
    store_directory,
)

FILES = tuple(
    LocalFile(path=f"/w/m-0000{n}-of-00002.gguf", name=f"m-0000{n}-of-00002.gguf", size_bytes=n * 100, modified_ns=n,
              sha256=str(n) * 64)
    for n in (1, 2)
)  # fmt: skip
WANTED = ModelImport(
    model="v4",
    files=(),
    parameters=(("num_ctx", 4096),),
    license="MIT",
    minimum_version="0.32.6",
    is_merged=True,
    timeout_seconds=1.0,
)
MERGED = Manifest(sha256="a" * 64, weights=("f" * 64,))
RECEIPT = Receipt(
    model="v4",
    store="/store",
    manifest_sha256=MERGED.sha256,
    files=tuple(ReceiptFile(name=f.name, size_bytes=f.size_bytes, modified_ns=f.modified_ns, sha256=f.sha256 or "")
                for f in FILES),
    parameters=WANTED.parameters,
)  # fmt: skip


def standing(
    *,
    wanted: ModelImport = WANTED,
    files: tuple[LocalFile, ...] = FILES,
    manifest: Manifest | None = None,
    receipt: Receipt | None = None,
    blobs: frozenset[str] = frozenset(),
) -> Standing:
    return judge(wanted, files, manifest, receipt, blobs=blobs)


def test_an_empty_store_takes_a_copy_and_a_merged_file() -> None:
    assert standing().needed_bytes == 600
    assert standing(wanted=replace(WANTED, is_merged=False)).needed_bytes == 300


def test_what_is_in_the_store_is_not_counted_again() -> None:
    assert standing(blobs=frozenset({"1" * 64})).needed_bytes == 200 + 300


def test_a_model_with_our_receipt_is_not_imported_again() -> None:
    now = standing(manifest=MERGED, receipt=RECEIPT)
    assert (now.is_imported, now.has_parameters, now.replaces, now.needed_bytes) == (True, True, False, 0)


def test_other_parameters_need_no_import() -> None:
    now = standing(wanted=replace(WANTED, parameters=(("num_ctx", 8192),)), manifest=MERGED, receipt=RECEIPT)
    assert (now.is_imported, now.has_parameters) == (True, False)


def test_parts_that_the_store_keeps_apart_need_no_receipt() -> None:
    kept = Manifest(sha256="b" * 64, weights=("2" * 64, "1" * 64))
    now = standing(manifest=kept)
    assert (now.is_imported, now.has_parameters) == (True, False)


@pytest.mark.parametrize(
    ("manifest", "receipt", "files"),
    [
        (MERGED, None, FILES),
        (replace(MERGED, sha256="c" * 64), RECEIPT, FILES),
        (MERGED, RECEIPT, (FILES[0], replace(FILES[1], sha256="9" * 64))),
        (MERGED, RECEIPT, (FILES[0], replace(FILES[1], sha256=None))),
        (Manifest(sha256="d" * 64, weights=("1" * 64,)), None, FILES),
    ],
    ids=["no receipt", "made by somebody else since", "other weights", "a file nobody knows", "a part of it"],
)
def test_a_model_of_that_name_from_other_files_is_replaced(
    manifest: Manifest, receipt: Receipt | None, files: tuple[LocalFile, ...]
) -> None:
    now = standing(files=files, manifest=manifest, receipt=receipt)
    assert (now.is_imported, now.replaces) == (False, True)
    assert now.is_ours is (receipt is not None and manifest.sha256 == MERGED.sha256)
    assert now.needed_bytes > 0


def test_without_a_model_a_receipt_is_worth_nothing() -> None:
    now = standing(receipt=RECEIPT)
    assert (now.is_imported, now.replaces) == (False, False)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("v4-flash", "registry.ollama.ai/library/v4-flash/latest"),
        ("v4-flash:q4", "registry.ollama.ai/library/v4-flash/q4"),
        ("me/v4.1:q4", "registry.ollama.ai/me/v4.1/q4"),
        ("host:5000/me/v4", "host:5000/me/v4/latest"),
    ],
)
def test_where_a_models_manifest_lies(name: str, path: str) -> None:
    assert manifest_path(name) == path


def test_a_manifest_tells_its_weights_only() -> None:
    layers = [
        {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:" + "1" * 64},
        {"mediaType": "application/vnd.ollama.image.params", "digest": "sha256:" + "2" * 64},
    ]
    assert parse_manifest(json.dumps({"layers": layers}).encode()).weights == ("1" * 64,)
    for broken in (b"", b"[]", b'{"layers": [1]}', b'{"layers": [{}]}'):
        with pytest.raises(ValueError, match=r".*"):
            parse_manifest(broken)


def test_where_the_store_lies() -> None:
    assert store_directory({"HOME": "/home/me"}) == Path("/home/me/.ollama/models")
    assert store_directory({"HOME": "/home/me", "OLLAMA_MODELS": ' "/big/models" '}) == Path("/big/models")
