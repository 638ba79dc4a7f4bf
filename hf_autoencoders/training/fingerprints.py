# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Whether two data sets hold the same pictures, from a short text that is cheap to compute."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor


READ_WHOLE = 2**28  # bytes; a data set of up to 256 MiB is read whole
READ_PICTURES = 1024  # of a larger one, the bytes of so many pictures, evenly spaced


def fingerprint(count: int, read: Callable[[Sequence[int]], Iterable[Any]], kind: str | None = None) -> str:
    """ "<number of pictures>-<16 hexadecimal digits>", from the pictures as they are stored.

    The digits are a SHA-256 over names, sizes and bytes. Up to `READ_WHOLE` all bytes are read, else those of
    `READ_PICTURES` evenly spaced pictures and, where pictures are files, the names and sizes of all. So one changed
    picture of a very large set may go unnoticed; another number or order of pictures does not. The place of the folder,
    labels, and how pictures are decoded, resized and augmented do not count.

    Args:
        count: number of pictures that `read` knows.
        read: row numbers -> cells, each {"bytes", "path"} or an array.
        kind: written in place of the number, where that is not known ("stream").

    >>> fingerprint(2, lambda rows: [np.full((2, 2), row, np.uint8) for row in rows])
    '2-61ee1e1be277fdcb'
    """
    digest = hashlib.sha256()
    probe = list(read(_evenly_spaced(count, 16)))
    chosen = list(range(count))
    if sum(map(_size, probe)) * count > READ_WHOLE * max(1, len(probe)):
        if all(isinstance(cell, dict) and not cell.get("bytes") for cell in probe):
            _add(digest, read, chosen, contents=False)
        chosen = _evenly_spaced(count, READ_PICTURES)
    _add(digest, read, chosen, contents=True)
    return f"{count if kind is None else kind}-{digest.hexdigest()[:16]}"


def identity(pictures: Any, labels: Tensor | None) -> dict[str, str]:
    """What a resumed run must find unchanged: the `fingerprint` of its pictures, and one of their classes (N,)."""
    found = {"fingerprint": pictures.fingerprint}
    if labels is not None:
        found["fingerprint of the classes"] = hashlib.sha256(labels.numpy().tobytes()).hexdigest()[:16]
    return found


def _evenly_spaced(count: int, wanted: int) -> list[int]:
    return list(range(count)) if count <= wanted else [index * (count - 1) // (wanted - 1) for index in range(wanted)]


def _add(digest: Any, read: Callable, rows: list[int], contents: bool) -> None:
    for start in range(0, len(rows), 64):
        for cell in read(rows[start : start + 64]):
            digest.update(f"{_name(cell)} {_size(cell)}\n".encode())
            if contents:
                digest.update(_bytes(cell))


def _name(cell: Any) -> str:
    """The file's own name, or the shape of an array."""
    if isinstance(cell, dict):
        return os.path.basename(cell.get("path") or "")
    return "" if cell is None else str(np.asarray(cell).shape)


def _size(cell: Any) -> int:
    """Number of bytes; 0 if the picture is missing."""
    if not isinstance(cell, dict):
        return 0 if cell is None else np.asarray(cell).nbytes
    if cell.get("bytes"):
        return len(cell["bytes"])
    return os.path.getsize(cell["path"]) if cell.get("path") and os.path.isfile(cell["path"]) else 0


def _bytes(cell: Any) -> bytes:
    if not isinstance(cell, dict):
        return b"" if cell is None else np.ascontiguousarray(cell).tobytes()
    if cell.get("bytes"):
        return cell["bytes"]
    return Path(cell["path"]).read_bytes() if _size(cell) else b""
