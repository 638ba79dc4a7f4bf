# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""Files are written completely or not at all, and a full disk is reported in one line."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}


class SaveFailed(OSError):
    """The disk could not take a file; earlier files are unchanged. The message is one line."""


@contextmanager
def one_line_if_full(what: str, kept: str) -> Iterator[None]:
    """Turns the errors of Python, safetensors and torch on a full disk into one SaveFailed.

    Args:
        what: name of what is written. kept: words on what is not lost.
    """
    try:
        yield
    except SaveFailed:
        raise
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = _reason_of_disk(error)
        if reason is None:
            raise
        raise SaveFailed(f"{reason}: {what} could not be written; {kept}.") from error


def _reason_of_disk(error: BaseException) -> str | None:
    """None for an error that has nothing to do with writing."""
    text = " ".join(str(error).split())
    if isinstance(error, OSError):
        return _in_words(error.errno, error.strerror) if error.errno in OF_DISKS else None
    if isinstance(error, SafetensorError):  # "... IoError(Os { code: 28, kind: StorageFull, message: "No space ..." })"
        found = re.search(r'code: (\d+).*message: "([^"]+)"', text)
        return _in_words(int(found.group(1)), found.group(2)) if found else text if "I/O error" in text else None
    # torch.save says no more than that the zip archive could not be written.
    written = "PytorchStreamWriter" in text or ("inline_container" in text and "unexpected pos" in text)
    return "The disk is full, or takes no file of this size" if written else None


def _in_words(number: int, text: str) -> str:
    return "The disk is full" if number in (errno.ENOSPC, errno.EDQUOT) else text


def write_atomically(path: Path, text: str):
    """Writes to a file beside `path`, then renames it: a reader sees the old text or the new one, never a part."""
    beside = path.with_name(f".{path.name}.writing")
    beside.write_text(text, encoding="utf-8")
    flush_to_disk(beside)
    os.replace(beside, path)


def flush_to_disk(path: Path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
