"""One shard file: torch's zip container, opened, checked and read piecewise.

Everything that the file declares is compared with what is there before a byte of a weight is read: a truncated or
lying file is an error with names and numbers, never a read of zeros. Reading goes by ``pread`` into a bounded buffer
rather than by mmap, so that a file which shrinks under us is an error, too, and not a SIGBUS.
"""

from __future__ import annotations

import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from glm_engine.errors import CheckpointError
from glm_engine.shard_pickle import ITEM_BYTES, TensorRef, read_description

_CHUNK_BYTES: Final = 8 << 20
_MAX_DESCRIPTION_BYTES: Final = 64 << 20
_LOCAL_HEADER_BYTES: Final = 30


@dataclass
class _Record:
    """A file inside the zip. ``checked`` counts the bytes, from the start, that ``running`` (a CRC-32) has seen."""

    name: str
    start: int
    size: int
    crc: int | None
    checked: int = 0
    running: int = 0


class ShardFile:
    """An open shard: ``tensors`` says what it holds, ``read`` returns parts of a tensor's storage.

    path : the file; tensors : key of ``module`` -> description, in the file's order;
    identity : what tells this content from another without reading all of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be opened: {error.strerror}") from error
        try:
            self._opened = os.fstat(self._fd)
            self._records = self._read_directory()
            self.tensors = self._read_tensors()
        except BaseException:
            os.close(self._fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; reading is over."""
        os.close(self._fd)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._opened.st_size

    @property
    def has_checksums(self) -> bool:
        """Whether the records carry CRC-32 sums (torch can be told to leave them out)."""
        return self._records["data.pkl"].crc is not None

    @property
    def identity(self) -> list[list[str | int]]:
        """[name, bytes, CRC-32] of every record with data; where there are no sums, the file's time stands in."""
        stamp = 0 if self.has_checksums else self._opened.st_mtime_ns
        records = [r for r in self._records.values() if r.name == "data.pkl" or r.name.startswith("data/")]
        return [[r.name, r.size, stamp if r.crc is None else r.crc] for r in records]

    def read(self, ref: TensorRef, first: int, count: int) -> bytes:
        """``count`` elements of the tensor's storage from element ``first`` on, counted from the tensor's own offset.

        The record's CRC-32 is followed on the way; ``finish`` or the last byte compares it.
        Raises ``CheckpointError`` where the bytes are not there or are not those that were written.
        """
        width = ITEM_BYTES[ref.dtype]
        record = self._records[ref.record]
        begin, size = (ref.offset + first) * width, count * width
        if record.crc is not None and record.checked < record.size and begin != record.checked:
            self._check_rest(record)
        data = self._pread(record, begin, size)
        if record.crc is not None and begin == record.checked:
            self._follow(record, data)
        return data

    def finish(self, ref: TensorRef) -> None:
        """Check what no ``read`` has passed of the tensor's record, so that its whole CRC-32 is known to be right."""
        record = self._records[ref.record]
        if record.crc is not None:
            self._check_rest(record)

    def check_unchanged(self) -> None:
        """Raise ``CheckpointError`` if the file was replaced or written since it was opened."""
        try:
            now = os.stat(self.path)
        except OSError as error:
            raise CheckpointError(f"{self.path}: vanished while it was read: {error.strerror}") from error
        before = self._opened
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
            raise CheckpointError(
                f"{self.path}: was changed while it was read; convert again when nothing writes to the checkpoint"
            )

    def _check_rest(self, record: _Record) -> None:
        while record.checked < record.size:
            size = min(_CHUNK_BYTES, record.size - record.checked)
            self._follow(record, self._pread(record, record.checked, size))

    def _follow(self, record: _Record, data: bytes) -> None:
        record.running = zlib.crc32(data, record.running)
        record.checked += len(data)
        if record.checked == record.size and record.running != record.crc:
            raise CheckpointError(
                f"{self.path}: {self._keys_of(record.name)} is damaged: its CRC-32 should be {record.crc:08x}, the "
                f"bytes give {record.running:08x}; get this file from its source again"
            )

    def _keys_of(self, record: str) -> str:
        keys = [key for key, ref in getattr(self, "tensors", {}).items() if ref.record == record]
        return f"{', '.join(keys[:3])} (record {record})" if keys else f"record {record}"

    def _pread(self, record: _Record, begin: int, size: int) -> bytes:
        parts = []
        position, left = record.start + begin, size
        while left:
            try:
                part = os.pread(self._fd, left, position)
            except OSError as error:
                raise CheckpointError(f"{self.path}: reading record {record.name} failed: {error.strerror}") from error
            if not part:
                raise CheckpointError(
                    f"{self.path}: ends in the middle of record {record.name}: expected {size} bytes at {begin}, "
                    f"found {size - left}; the file shrank while it was read"
                )
            parts.append(part)
            position, left = position + len(part), left - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _read_directory(self) -> dict[str, _Record]:
        if self.size == 0:
            raise CheckpointError(f"{self.path}: is empty (0 bytes); get this file from its source again")
        try:
            with open(self._fd, "rb", closefd=False) as file, zipfile.ZipFile(file) as container:
                members = container.infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise CheckpointError(
                f"{self.path}: is not a whole torch file: the directory at its end is missing or damaged ({error}); "
                f"found {self.size} bytes. A download that broke off looks like this: get the file again. "
                "Files of torch before 1.6 have no such directory: save them again with a newer torch"
            ) from error
        prefix = members[0].filename.partition("/")[0] + "/" if members else ""
        records: dict[str, _Record] = {}
        # torch writes no sums at all or all of them, and its description is never empty
        with_sums = any(m.filename == f"{prefix}data.pkl" and m.CRC for m in members)
        for member in members:
            name = member.filename.removeprefix(prefix)
            if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
                raise CheckpointError(f"{self.path}: record {name} is compressed; torch never does that. Save it again")
            if name in records:
                raise CheckpointError(f"{self.path}: record {name} occurs twice; the file is damaged")
            start = self._data_start(member, name)
            records[name] = _Record(name, start, member.file_size, member.CRC if with_sums else None)
        self._check_overlaps(records)
        return records

    def _data_start(self, member: zipfile.ZipInfo, name: str) -> int:
        header = os.pread(self._fd, _LOCAL_HEADER_BYTES, member.header_offset)
        if len(header) < _LOCAL_HEADER_BYTES or header[:4] != b"PK\x03\x04":
            raise CheckpointError(f"{self.path}: record {name} has no header at {member.header_offset}; get it again")
        start = member.header_offset + _LOCAL_HEADER_BYTES
        start += int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        if start + member.file_size > self.size:
            raise CheckpointError(
                f"{self.path}: record {name} should end at byte {start + member.file_size}; the file has {self.size}"
            )
        return start

    def _check_overlaps(self, records: dict[str, _Record]) -> None:
        end = 0
        for record in sorted(records.values(), key=lambda r: (r.start, r.size)):
            if record.start < end:
                raise CheckpointError(f"{self.path}: record {record.name} lies inside another; the file is damaged")
            end = record.start + record.size

    def _read_tensors(self) -> dict[str, TensorRef]:
        description = self._records.get("data.pkl")
        if description is None or description.size > _MAX_DESCRIPTION_BYTES:
            found = "none" if description is None else f"{description.size} bytes"
            raise CheckpointError(
                f"{self.path}: expected a record data.pkl of at most {_MAX_DESCRIPTION_BYTES} bytes; found {found}"
            )
        order = self._records.get("byteorder")
        if order is not None and self._pread(order, 0, min(order.size, 8)) != b"little":
            raise CheckpointError(f"{self.path}: expected little-endian numbers; save it again on such a machine")
        data = self._pread(description, 0, description.size)
        if description.crc is not None:
            self._follow(description, data)
        module = read_description(data, str(self.path)).get("module")
        if not isinstance(module, dict):
            found = "no such key" if module is None else type(module).__name__
            raise CheckpointError(f"{self.path}: key `module`: expected a dict of tensors; found {found}")
        for key, ref in module.items():
            if not isinstance(key, str) or not isinstance(ref, TensorRef):
                raise CheckpointError(f"{self.path}: {key!r}: expected a tensor; found {type(ref).__name__}")
            self._check_tensor(key, ref)
        return dict(module)

    def _check_tensor(self, key: str, ref: TensorRef) -> None:
        record = self._records.get(ref.record)
        if record is None:
            raise CheckpointError(f"{self.path}: {key}: its storage {ref.record} is not in the file; get it again")
        declared = ref.storage_items * ITEM_BYTES[ref.dtype]
        if record.size != declared:
            raise CheckpointError(f"{self.path}: {key}: expected {declared} bytes of storage; found {record.size}")
        if len(ref.shape) != len(ref.stride) or len(ref.shape) > 2 or not all(ref.shape):
            raise CheckpointError(f"{self.path}: {key}: expected a vector or a matrix; found shape {list(ref.shape)}")
        if ref.stride and ref.stride[-1] != 1 and ref.shape[-1] != 1:
            raise CheckpointError(
                f"{self.path}: {key}: expected rows one after the other; found strides {list(ref.stride)}. "
                "Save it again with .contiguous()"
            )
        last = ref.offset + sum((n - 1) * s for n, s in zip(ref.shape, ref.stride, strict=True)) + 1
        if last > ref.storage_items:
            raise CheckpointError(f"{self.path}: {key}: reaches element {last} of a storage of {ref.storage_items}")
