"""The joins of one shard in Redis: every fold is one script, so that counts, rows and positions can never part.

All keys of a shard start with `shadow:{rollout:shard}:`, whose braces keep them on one node of a Redis Cluster; `apply.lua` names each
key, what it holds and when it expires. Rows are fixed-width in strings of 256, written at exact offsets. The ids of a shard are spread
over 4096 hashes, which stay in Redis's compact form up to 512 ids each, two millions a shard; beyond that they work, at about three
times the memory. An id stays as long as its hash is written to: at most for the life of the rollout and `keep` after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Any

from harness.adapters.codec import MsgpackCodec
from harness.adapters.redis.connection import address_of, connect, script, translated
from harness.core.errors import HeadMoved, Overrun, RecordError
from harness.core.pairing import Effects, Head, Known, Open, Snapshot
from harness.core.routing import SOURCE_BYTES
from harness.core.table import RowLayout

CHUNK_ROWS = 256
_REF_BYTES = SOURCE_BYTES + 8  # a source hash and an ordinal


def _flat(width: int, items: Sequence[bytes | str | int]) -> list[bytes | str | int]:
    """One list of the script's arguments: how many items of this width, then they."""
    return [len(items) // width, *items]


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
        self._layout, self._codec, self._keep_ms = layout, MsgpackCodec(), ceil(keep_s * 1_000)
        prefix = f"shadow:{{{rollout}:{shard}}}:"
        self._shard = f"{self._where} {rollout}/{shard}"
        self._head, self._open, self._settled = prefix + "head", prefix + "open", prefix + "settled"
        self._early, self._due, self._words = prefix + "early", prefix + "due", prefix + "words"
        self._ids, self._pairs = prefix + "ids:", prefix + "pairs:"
        scripts = map(script, ("apply.lua", "find.lua", "load.lua", "snapshot.lua"))
        self._apply, self._find, self._load, self._snapshot = map(self._client.register_script, scripts)
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
            found: list[list[bytes]] = self._find(
                [self._head, self._early, self._ids, self._pairs], [self._layout.width, b"".join(keys)]
            )
        return {id: self._known(events, outcomes, rows) for id, events, outcomes, *rows in found}

    def _known(self, events: bytes, outcomes: bytes, rows: Sequence[bytes]) -> Known:
        refs = tuple(_refs(events))
        return Known(
            events=refs,
            rows={ordinal: row for (_, ordinal), row in zip(refs, rows, strict=True) if row},
            early=self._codec.decode_outcomes(outcomes) if outcomes else (),
        )

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
        keys = [self._head, self._open, self._settled, self._early, self._due, self._words, self._ids, self._pairs]
        with translated(self._where):
            done = self._apply(keys, [expected, head, effects.head.resolved, self._keep_ms, *self._changes(effects, after)])
        if not done:
            raise HeadMoved(f"{self._shard}: the stored head is not version {after.version} as loaded; another joiner wrote")
        self._stored = (effects.head, head)

    def _changes(self, effects: Effects, after: Head) -> Iterator[bytes | str | int]:
        """The last arguments of apply.lua, in its order."""
        encode = self._codec.encode_open
        yield b"".join([id + _packed(refs) for id, refs in effects.ids.items() if len(refs) == 1])
        yield from _flat(2, [x for id, refs in effects.ids.items() if len(refs) > 1 for x in (id, _packed(refs))])
        yield from _flat(2, [x for ordinal, opened in effects.open.items() for x in (ordinal, encode(opened))])
        yield from _flat(2, [x for ordinal, opened in effects.settled.items() for x in (ordinal, encode(opened))])
        yield from _flat(1, effects.gone)
        yield from _flat(3, [
            x for id, outcomes in effects.early.items()
            for x in (id, *((self._codec.encode_outcomes(outcomes), min(o.time for o in outcomes)) if outcomes else (b"", 0)))
        ])  # fmt: skip
        yield from _flat(4, list(self._pieces(effects.rows, after.resolved)))
        width, label_at = self._layout.width, self._layout.label_at
        yield from _flat(3, [
            x for ordinal, label in effects.labels.items()
            for x in (ordinal // CHUNK_ROWS, ordinal % CHUNK_ROWS * width + label_at, label)
        ])  # fmt: skip
        yield from _flat(1, effects.words)

    def _pieces(self, rows: bytes, start: int) -> Iterator[bytes | int]:
        """(chunk, byte in it, rows, ordinal of the first) of each chunk that these rows touch."""
        width, stop = self._layout.width, start + len(rows) // self._layout.width
        for chunk, first, last in _spans(start, stop):
            yield from (chunk, first % CHUNK_ROWS * width, rows[(first - start) * width : (last - start) * width], first)

    # ------------------------------------------------------------------------------------------------------------------- reading
    def rows(self, start: int, stop: int) -> bytes:
        """The packed rows of the ordinals start <= ordinal < stop; all below `head.resolved`. Raises Overrun when some have expired."""
        width = self._layout.width
        spans = list(_spans(start, stop))
        with translated(self._where), self._client.pipeline(transaction=False) as pipe:
            for chunk, first, last in spans:
                at = first % CHUNK_ROWS * width
                pipe.getrange(f"{self._pairs}{chunk}", at, at + (last - first) * width - 1)
            pipe.hget(self._head, "floor")  # read last: it only rises
            *pieces, floor = pipe.execute()
        if start < stop and (start < int(floor or 0) or sum(map(len, pieces)) != (stop - start) * width):
            raise Overrun(f"{self._shard}: rows of the ordinals {start} to {stop} have expired, or were never written")
        return b"".join(pieces)

    def close(self) -> None:
        """Lets go of all connections."""
        self._client.close()


def _spans(start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(chunk, first ordinal, ordinal after the last) of each chunk that holds some of start <= ordinal < stop."""
    while start < stop:
        end = min(stop, (start // CHUNK_ROWS + 1) * CHUNK_ROWS)
        yield start // CHUNK_ROWS, start, end
        start = end


def _pairs(flat: Sequence[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Field and value of each entry of a hash, as Redis lists them."""
    return zip(flat[::2], flat[1::2], strict=True)


def _packed(refs: Sequence[tuple[bytes, int]]) -> bytes:
    """(source hash, ordinal) of the events of one id."""
    return b"".join([source + ordinal.to_bytes(8, "big") for source, ordinal in refs])


def _refs(packed: bytes) -> Iterator[tuple[bytes, int]]:
    """The inverse of `_packed`."""
    if len(packed) % _REF_BYTES:
        raise RecordError(f"{len(packed)} bytes that are no list of events")
    for at in range(0, len(packed), _REF_BYTES):
        yield packed[at : at + SOURCE_BYTES], int.from_bytes(packed[at + SOURCE_BYTES : at + _REF_BYTES], "big")
