"""The joins of one shard in Redis: every fold is one script, so that counts, rows and positions can never part.

All keys of a shard start with `shadow:{rollout:shard}:`, whose braces keep them on one node of a Redis Cluster; `apply.lua` names each
key, what it holds and when it expires. Rows are kept in chunks of 256 (`chunks`): the one that is not full grows row by row, a full one
is packed, once, and labels stand beside them. The ids of a shard are spread over 4096 hashes, which stay in Redis's compact form up to
512 ids each, two millions a shard; beyond that they work, at about three times the memory. An id stays as long as its hash is written
to: at most for the life of the rollout and `keep` after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from harness.adapters.codec import MsgpackCodec
from harness.adapters.redis.chunks import CHUNK_ROWS, Bytes, Chunks
from harness.adapters.redis.connection import address_of, connect, script, translated
from harness.core.errors import HeadMoved, Overrun, RecordError, StoreUnavailable
from harness.core.held import Known, Open
from harness.core.pairing import Effects, Head, Snapshot
from harness.core.routing import ID_BYTES, KEY_BYTES, SOURCE_BYTES
from harness.core.table import RowLayout

_ORDINAL_BYTES = 5  # a million million events
_REF_BYTES = SOURCE_BYTES + _ORDINAL_BYTES
_READ_CHUNKS = 64  # in one script
_TRIES = 100


def _flat(width: int, items: Sequence[bytes | str | int]) -> list[bytes | str | int]:
    """One list of the script's arguments: how many items of this width, then they."""
    return [len(items) // width, *items]


_Tail = tuple[str | int, str | int, bytes, int, int]  # arguments 6 to 10 of apply.lua


class _Rows(NamedTuple):
    """What new rows make of chunks: three flat lists for apply.lua."""

    begun: tuple[int, ...]
    full: tuple[int | bytes, ...]
    labels: tuple[int | bytes, ...]


class RedisPairLog:
    """`ports.pairlog.PairLog` in Redis 6.2 or later.

    Args:
        rollout: name of the rollout.
        layout: the rows of its config.
        keep_s: how long what was last written stays.
    """

    def __init__(self, url: str, rollout: str, shard: int, *, layout: RowLayout, keep_s: float) -> None:
        self._where = address_of(url)
        self._client: Any = connect(url)
        self._layout, self._codec, self._chunks, self._keep_ms = layout, MsgpackCodec(), Chunks(layout), ceil(keep_s * 1_000)
        prefix = f"shadow:{{{rollout}:{shard}}}:"
        self._shard = f"{self._where} {rollout}/{shard}"
        self._head, self._open, self._settled = prefix + "head", prefix + "open", prefix + "settled"
        self._early, self._due, self._words = prefix + "early", prefix + "due", prefix + "words"
        self._tail, self._ids, self._pairs, self._labels = prefix + "tail", prefix + "ids:", prefix + "pairs:", prefix + "labels:"
        scripts = map(script, ("apply.lua", "find.lua", "forget.lua", "load.lua", "rows.lua", "snapshot.lua"))
        self._apply, self._find, self._forget, self._load, self._rows, self._snapshot = map(self._client.register_script, scripts)
        self._stored: tuple[Head, bytes] = (Head(), b"")  # the head last loaded or written, and its bytes, whatever release wrote them

    # ------------------------------------------------------------------------------------------------------------------ the head
    def _decode(self, head: bytes) -> Head:
        return self._codec.decode_head(head) if head else Head()

    def load(self) -> tuple[Head, Mapping[int, Open], Sequence[str]]:
        """The head, the open and settled events by ordinal, and the words, read at once."""
        with translated(self._where):
            head, opened, settled, words = self._load([self._head, self._open, self._settled, self._words])
        self._stored = (self._decode(head), head)
        opens = {int(ordinal): self._codec.decode_open(value) for ordinal, value in (*_pairs(opened), *_pairs(settled))}
        return self._stored[0], dict(sorted(opens.items())), [word.decode() for word in words]

    def snapshot(self) -> Snapshot:
        """Head and number of open events, read at once."""
        with translated(self._where):
            head, in_flight = self._snapshot([self._head, self._open])
        return Snapshot(head=self._decode(head), in_flight=in_flight)

    def words(self) -> Sequence[str]:
        """The shard's dictionary."""
        with translated(self._where):
            return [word.decode() for word in self._client.lrange(self._words, 0, -1)]

    # ------------------------------------------------------------------------------------------------------------- what is known
    def find(self, keys: Sequence[bytes]) -> Mapping[bytes, Known]:
        """What is stored of these events, in one script."""
        if not keys:
            return {}
        with translated(self._where):
            floor, resolved, tail, sealed, known = self._find(
                [self._head, self._early, self._ids, self._tail, self._pairs, self._labels], [b"".join(keys)]
            )
        chunks = {int(n): self._chunks.open([chunk]) for n, chunk in _pairs(sealed) if chunk}
        chunks[int(resolved) // CHUNK_ROWS] = self._chunks.begun(tail)
        return {id: self._known(events, outcomes, labels, chunks, int(floor)) for id, events, outcomes, *labels in known}

    def _known(self, events: bytes, outcomes: bytes, labels: Sequence[bytes], chunks: Mapping[int, Bytes], floor: int) -> Known:
        refs, rows = tuple(_refs(events)), {}
        for (_, ordinal), label in zip(refs, labels, strict=True):
            chunk, place = chunks.get(ordinal // CHUNK_ROWS), ordinal % CHUNK_ROWS
            if chunk is not None and place < len(chunk) and ordinal >= floor:
                row = chunk[place].tobytes()
                rows[ordinal] = row[: self._layout.label_at] + label if label else row
        return Known(events=refs, rows=rows, early=self._codec.decode_outcomes(outcomes) if outcomes else ())

    def due(self, before: int, limit: int) -> Sequence[bytes]:
        """Keys whose earliest outcome has a time before `before`, oldest first; at most `limit`."""
        with translated(self._where):
            found: list[bytes] = self._client.zrangebyscore(self._due, "-inf", f"({before}", start=0, num=limit)
        return found

    # ------------------------------------------------------------------------------------------------------------------ writing
    def apply(self, effects: Effects, *, after: Head) -> None:
        """All effects and their new head in one script, or nothing."""
        expected = self._stored[1] if after == self._stored[0] else b"" if after == Head() else self._codec.encode_head(after)
        head = self._codec.encode_head(effects.head)
        keys = [self._head, self._open, self._settled, self._early, self._due, self._words]
        keys += [self._tail, self._ids, self._pairs, self._labels]
        with translated(self._where):
            tail, rows = self._written(effects.rows, after.resolved)
            changes = self._changes(effects, after.resolved, rows)
            done = self._apply(keys, [expected, head, effects.head.resolved, self._keep_ms, next(changes), *tail, *changes])
        if not done:
            raise HeadMoved(f"{self._shard}: the stored head is not version {after.version} as loaded; another joiner wrote")
        self._stored = (effects.head, head)

    def _written(self, rows: bytes, start: int) -> tuple[_Tail, _Rows]:
        """How these rows, of the ordinals from `start` on, change the tail, and what they make of chunks."""
        if not rows:
            return ("", "", b"", start, 0), _Rows((), (), ())
        facts, labelled = self._chunks.split(rows)
        labels = tuple(
            x for n, label in labelled.items() for x in ((start + n) // CHUNK_ROWS, (start + n) % CHUNK_ROWS, label)
        )  # fmt: skip
        width, first, stop = self._chunks.facts_bytes, start // CHUNK_ROWS, start + len(rows) // self._layout.width
        begun = tuple(range(-(-start // CHUNK_ROWS), -(-stop // CHUNK_ROWS)))
        at = start % CHUNK_ROWS * width
        if stop // CHUNK_ROWS == first:
            return ("", at, facts, start, 0), _Rows(begun, (), labels)
        had: bytes = (self._client.get(self._tail) or b"") if at else b""
        size = CHUNK_ROWS * width
        whole = (had[:at] if len(had) >= at else bytes(at)) + facts
        full = tuple(x for n in range(len(whole) // size) for x in (first + n, self._chunks.seal(whole[n * size : (n + 1) * size])))
        rest = whole[len(whole) // size * size :]
        return (len(had) if at else "", -1, rest, start, int(len(had) < at)), _Rows(begun, full, labels)

    def _changes(self, effects: Effects, resolved: int, rows: _Rows) -> Iterator[bytes | str | int]:
        """The new ids for apply.lua, then its last arguments, in its order. resolved: ordinals below it had rows before."""
        encode = self._codec.encode_open
        new = (id + refs[0][0] + refs[0][1].to_bytes(_ORDINAL_BYTES, "big") for id, refs in effects.ids.items() if len(refs) == 1)
        yield b"".join([*new, *(_new_refs(first, keys) for first, keys in effects.fresh)])
        yield from _flat(2, [x for id, refs in effects.ids.items() if len(refs) > 1 for x in (id, _packed(refs))])
        yield from _flat(2, [x for ordinal, opened in effects.open.items() for x in (ordinal, encode(opened))])
        yield from _flat(2, [x for ordinal, opened in effects.settled.items() for x in (ordinal, encode(opened))])
        yield from _flat(1, effects.gone)
        yield from _flat(3, [
            x for id, outcomes in effects.early.items()
            for x in (id, *((self._codec.encode_outcomes(outcomes), min(o.time for o in outcomes)) if outcomes else (b"", 0)))
        ])  # fmt: skip
        width, tail = self._chunks.facts_bytes, resolved // CHUNK_ROWS
        yield from _flat(4, [
            x for ordinal, label in effects.labels.items() for chunk, place in (divmod(ordinal, CHUNK_ROWS),)
            for x in (chunk, place, label, (place + 1) * width if chunk == tail else 0)
        ])  # fmt: skip
        yield from _flat(1, rows.begun)
        yield from _flat(2, rows.full)
        yield from _flat(3, rows.labels)
        yield from _flat(1, effects.words)

    # ------------------------------------------------------------------------------------------------------------------- reading
    def rows(self, start: int, stop: int) -> bytes:
        """The packed rows of the ordinals start <= ordinal < stop; all below `head.resolved`. Raises Overrun when some have expired."""
        if start >= stop:
            return b""
        last, found, floor = (stop - 1) // CHUNK_ROWS, list[Bytes](), 0
        for first in range(start // CHUNK_ROWS, last + 1, _READ_CHUNKS):
            rows, floor = self._read(first, min(first + _READ_CHUNKS - 1, last))
            found.append(rows)
        at = start % CHUNK_ROWS
        if start < floor or sum(map(len, found)) < at + stop - start:
            raise Overrun(f"{self._shard}: rows of the ordinals {start} to {stop} have expired, or were never written")
        return (found[0] if len(found) == 1 else np.concatenate(found))[at : at + stop - start].tobytes()

    def _read(self, first: int, last: int) -> tuple[Bytes, int]:
        """(rows of these chunks up to the first that is not there, first ordinal that is not lost), of one moment."""
        with translated(self._where):
            floor, resolved, tail, sealed, labels = self._rows([self._head, self._tail, self._pairs, self._labels], [first, last])
        n_full = next((n for n, chunk in enumerate(sealed) if not chunk), len(sealed))
        rows = self._chunks.open(sealed[:n_full])
        if first + n_full == int(resolved) // CHUNK_ROWS <= last:
            rows = np.concatenate([rows, self._chunks.begun(tail)])
        self._chunks.put(
            {n * CHUNK_ROWS + int(place): label for n, each in enumerate(labels) if each for place, label in _pairs(each)}, rows
        )
        return rows, int(floor)

    # ---------------------------------------------------------------------------------------------------------------- forgetting
    def forget(self, unit: int) -> int:
        """Leaves nothing of a unit's rows but when they arrived, chunk by chunk."""
        last = self.snapshot().head.resolved // CHUNK_ROWS
        return sum(self._forget_in(chunk, unit) for chunk in range(last + 1))

    def _forget_in(self, chunk: int, unit: int) -> int:
        """The same in one chunk, which a joiner may be writing to."""
        for _ in range(_TRIES):
            with translated(self._where):
                head, _ = self._snapshot([self._head, self._open])
                _, resolved, tail, sealed, _ = self._rows([self._head, self._tail, self._pairs, self._labels], [chunk, chunk])
            full = bool(sealed[0])
            if not full and chunk != int(resolved) // CHUNK_ROWS:
                return 0
            rows = self._chunks.open(sealed) if full else self._chunks.begun(tail)
            records = rows.reshape(-1).view(self._layout.dtype)
            places = np.flatnonzero(records["unit"] == unit)
            if not len(places):
                return 0
            gone, ids = {chunk * CHUNK_ROWS + int(place) for place in places}, [bytes(key)[:ID_BYTES] for key in records["key"][places]]
            records[places] = self._layout.forgotten(records[places])
            facts = np.ascontiguousarray(rows[:, : self._chunks.facts_bytes]).tobytes()
            left = {id: _packed([ref for ref in known.events if ref[1] not in gone]) for id, known in self.find(ids).items()}
            before = self._decode(head)
            after = self._codec.encode_head(replace(before, version=before.version + 1))
            arguments = [head, after, chunk, int(not full), self._chunks.seal(facts) if full else facts, *_flat(1, places.tolist())]
            with translated(self._where):
                done = self._forget(
                    [self._head, self._tail, self._ids, self._pairs, self._labels],
                    [*arguments, *_flat(2, [x for id, refs in left.items() for x in (id, refs)])],
                )
            if done:
                return len(places)
        raise StoreUnavailable(f"{self._shard}: a joiner was faster each time; try again")

    def close(self) -> None:
        """Lets go of all connections."""
        self._client.close()


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Field and value of each entry of a hash, as Redis lists them."""
    return zip(flat[::2], flat[1::2], strict=True)


def _packed(refs: Sequence[tuple[bytes, int]]) -> bytes:
    """(source hash, ordinal) of the events of one id."""
    return b"".join([source + ordinal.to_bytes(_ORDINAL_BYTES, "big") for source, ordinal in refs])


def _new_refs(first: int, keys: bytes) -> bytes:
    """(id, source hash, ordinal) of each event of a run; a key is the first two of them."""
    found = np.empty((len(keys) // KEY_BYTES, KEY_BYTES + _ORDINAL_BYTES), np.uint8)
    found[:, :KEY_BYTES] = np.frombuffer(keys, np.uint8).reshape(-1, KEY_BYTES)
    ordinals = np.arange(first, first + len(found), dtype=">u8").view(np.uint8).reshape(-1, 8)
    found[:, KEY_BYTES:] = ordinals[:, -_ORDINAL_BYTES:]
    return found.tobytes()


def _refs(packed: bytes) -> Iterator[tuple[bytes, int]]:
    """The inverse of `_packed`."""
    if len(packed) % _REF_BYTES:
        raise RecordError(f"{len(packed)} bytes that are no list of events")
    for at in range(0, len(packed), _REF_BYTES):
        yield packed[at : at + SOURCE_BYTES], int.from_bytes(packed[at + SOURCE_BYTES : at + _REF_BYTES], "big")
