"""The container of a model: a zip file in one canonical form, so that equal members give equal bytes.

Members are stored, sorted by name and dated 1980; on reading, the file must be exactly what writing gives. So nothing
can hide in it: no second member of a name, no bytes between members, no compression that unfolds to gigabytes.
"""

import io
import re
import zipfile
from collections.abc import Mapping

from axiom_jax._errors import ModelError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99})?")
MOST = 10_000  # members


def write_zip(members: Mapping[str, bytes]) -> bytes:
    """A zip file of named contents.

    >>> write_zip({"b": b"2", "a": b"1"}) == write_zip({"a": b"1", "b": b"2"})
    True
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # the same on every system
            archive.writestr(entry, members[name])
    return buffer.getvalue()


def read_zip(content: bytes, file: str) -> dict[str, bytes]:
    """The members of a zip file that `write_zip` wrote.

    Raises:
        ModelError: it is another kind of file, cut short, changed, or names a member in a way that it should not.
    """
    if not content.startswith(b"PK\x03\x04"):
        pointer = content.startswith(b"version https://git-lfs")
        raise ModelError(
            "The file is not an axiom model." if content else "The file is empty.", at=file,
            got=f"{len(content)} bytes" + (f", starting with {content[:12]!r}" if content else ""),
            fix="this is a Git LFS pointer: run git lfs pull" if pointer else "give a file that ax.save_model wrote",
        )  # fmt: skip
    again = "fetch the file again, or save it again with ax.save_model"
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            _require_plain(entries, len(content), file)
            members = {entry.filename: archive.read(entry) for entry in entries}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, ValueError, OverflowError, OSError, RuntimeError,
            NotImplementedError, LookupError) as error:  # fmt: skip
        what = "The file is cut short or damaged."
        raise ModelError(what, at=file, got=str(error)[:200] or f"{len(content)} bytes", fix=again) from error
    if write_zip(members) != content:
        what = "The file was changed after it was saved: it is not in the canonical form."
        raise ModelError(what, at=file, got=f"{len(content)} bytes, {len(members)} members", fix=again)
    return members


def _require_plain(entries: list[zipfile.ZipInfo], size: int, file: str) -> None:
    """Refuse before anything is read: sizes are those that the file declares."""
    names = [entry.filename for entry in entries]
    fix = "give a file that ax.save_model wrote"
    if len(names) > MOST:
        raise ModelError("The file has too many members.", at=file, got=f"{len(names)}; at most {MOST}", fix=fix)
    if strange := [name for name in names if not NAME.fullmatch(name)]:
        raise ModelError("The file has a member whose name is no plain path.", at=file, got=repr(strange[0])[:120],
                         fix=fix)  # fmt: skip
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ModelError("The file has two members of one name.", at=file, got=twice, fix=fix)
    packed = [entry.filename for entry in entries if entry.compress_type or entry.file_size != entry.compress_size]
    if packed or any(entry.flag_bits for entry in entries) or sum(entry.file_size for entry in entries) > size:
        raise ModelError(
            "The members of the file are compressed, encrypted or larger than the file.", at=file,
            got=f"{size} bytes, members of {sum(entry.file_size for entry in entries)} bytes",
            fix="members are stored as they are: save the model again with ax.save_model",
        )  # fmt: skip
