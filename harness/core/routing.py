"""Hashes that decide: which shard, is a unit sampled, which arm. Stable for a rollout's name, on any machine and in any language.

Every hash is BLAKE2b (RFC 7693), keyed by the rollout's name (and a secret, if there is one) and separated by purpose. Nothing of a
config's version goes in: who is sampled at 10 percent is sampled at 20.
"""

from __future__ import annotations

from hashlib import blake2b

ID_BYTES = 10
SOURCE_BYTES = 4
KEY_BYTES = ID_BYTES + SOURCE_BYTES
MOST_SOURCES = 1_024  # remembered at a time


class Hasher:
    """The hashes of one rollout.

    key of BLAKE2b: `rollout name`, or the secret followed by it, cut by a first hash to 32 bytes. person: the purpose, at most 16
    bytes.
    """

    def __init__(self, rollout: str, secret: bytes = b"") -> None:
        self._secret = secret
        self._sources: dict[str, bytes] = {}
        self._key = blake2b(secret + rollout.encode(), digest_size=32, person=b"shadow-rollout").digest()
        self._begun: dict[tuple[bytes, int], blake2b] = {}
        self._of_event = blake2b(digest_size=ID_BYTES, key=self._key, person=b"event")
        self._of_unit = blake2b(digest_size=8, key=self._key, person=b"unit")

    def of(self, rollout: str) -> Hasher:
        """The hashes of another rollout with the same secret."""
        return Hasher(rollout, self._secret)

    def digest(self, purpose: bytes, text: str, size: int) -> bytes:
        """`size` bytes for `text`, other ones for another purpose."""
        begun = self._begun.get((purpose, size))
        if begun is None:  # keyed once: a copy takes half the time
            begun = self._begun[purpose, size] = blake2b(digest_size=size, key=self._key, person=purpose)
        hashed = begun.copy()
        try:
            hashed.update(text.encode())
        except UnicodeEncodeError:  # half a surrogate pair: JSON can say it
            hashed.update(text.encode("utf-8", "surrogatepass"))
        return hashed.digest()

    def event_id(self, id: str) -> bytes:
        """The 10 bytes by which an outcome finds its event."""
        return self.digest(b"event", id, ID_BYTES)

    def key(self, source: str, id: str) -> bytes:
        """The 14 bytes that identify an event: its id's, then its source's."""
        found = self._sources.get(source)
        if found is None:
            if len(self._sources) >= MOST_SOURCES:
                self._sources.clear()
            found = self._sources[source] = self.digest(b"source", source, SOURCE_BYTES)
        return self.event_id(id) + found

    def key_and_unit(self, source: str, id: str, unit: str) -> tuple[bytes, int]:
        """`key` and `unit` of an event: what the router asks of every one of them, in one call."""
        known = self._sources.get(source)
        if known is None:
            return self.key(source, id), self.unit(unit)
        hashed, of_unit = self._of_event.copy(), self._of_unit.copy()
        try:
            hashed.update(id.encode())
            of_unit.update(unit.encode())
        except UnicodeEncodeError:
            return self.key(source, id), self.unit(unit)
        return hashed.digest() + known, int.from_bytes(of_unit.digest(), "big")

    def unit(self, unit: str) -> int:
        """The 64-bit number that stands for a unit."""
        return int.from_bytes(self.digest(b"unit", unit, 8), "big")

    def fraction(self, purpose: bytes, unit: str) -> float:
        """A uniform number in [0, 1) for a unit: 53 bits, so that every language gives the same double."""
        return (int.from_bytes(self.digest(purpose, unit, 8), "big") >> 11) / (1 << 53)

    def sampled(self, unit: str, percent: float) -> bool:
        """Whether a unit is in a sample of `percent`; a larger percent keeps all that a smaller one took."""
        return percent >= 100.0 or self.fraction(b"sample", unit) * 100.0 < percent


def shard_of(key: bytes, shards: int) -> int:
    """The shard of an event, and of the outcomes that name its id: the first 8 bytes of the id's hash modulo the number of shards."""
    return int.from_bytes(key[:8], "big") % shards if shards > 1 else 0


def replicated(key: bytes, percent: float) -> bool:
    """Whether the replica is asked about an event: its own bits of the key decide, the same in every role."""
    return int.from_bytes(key[8:ID_BYTES], "big") * 100.0 < percent * (1 << 16)
