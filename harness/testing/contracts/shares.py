"""What every adapter of `ports.shares` keeps."""

from __future__ import annotations

import time

from harness.ports.shares import Shares

PARTS = ("0", "1", "2", "3", "4")
LONG_S = 60.0
SHORT_S = 0.05


class SharesContract:
    """Give a fixture `shares`: an empty Shares."""

    def test_a_worker_alone_holds_every_part(self, shares: Shares) -> None:
        """One process is a whole deployment."""
        assert shares.take("joiner", "a", PARTS, ttl_s=LONG_S) == PARTS

    def test_a_second_worker_waits_until_the_first_gives_back(self, shares: Shares) -> None:
        """A part is never handed over while its holder does not know: it gives back at its next renewal."""
        shares.take("joiner", "a", PARTS, ttl_s=LONG_S)
        assert shares.take("joiner", "b", PARTS, ttl_s=LONG_S) == ()
        kept = shares.take("joiner", "a", PARTS, ttl_s=LONG_S)
        got = shares.take("joiner", "b", PARTS, ttl_s=LONG_S)
        assert (len(kept), sorted(kept + got)) == (3, list(PARTS))

    def test_workers_share_fairly_whatever_their_number(self, shares: Shares) -> None:
        """Nobody holds more than parts / workers, rounded up, and after two rounds every part has one holder."""
        for workers in (("a",), ("a", "b"), ("a", "b", "c"), tuple("abcdefg")):
            held = {}
            for _ in range(3):
                held = {worker: shares.take("lane", worker, PARTS, ttl_s=LONG_S) for worker in workers}
            assert sorted(part for parts in held.values() for part in parts) == list(PARTS)
            assert max(map(len, held.values())) <= -(-len(PARTS) // len(workers))

    def test_a_worker_that_leaves_frees_its_parts_at_once(self, shares: Shares) -> None:
        """A graceful stop hands over without waiting for a lease to run out."""
        shares.take("joiner", "a", PARTS, ttl_s=LONG_S)
        shares.leave("joiner", "a")
        assert shares.take("joiner", "b", PARTS, ttl_s=LONG_S) == PARTS
        assert list(shares.workers("joiner")) == ["b"]

    def test_the_parts_of_a_dead_worker_are_taken(self, shares: Shares) -> None:
        """Kill -9 costs its parts a lease, no more."""
        shares.take("joiner", "dead", PARTS, ttl_s=SHORT_S)
        deadline = time.monotonic() + LONG_S
        while shares.take("joiner", "b", PARTS, ttl_s=LONG_S) != PARTS:
            assert time.monotonic() < deadline
        assert list(shares.workers("joiner")) == ["b"]

    def test_roles_do_not_share_with_each_other(self, shares: Shares) -> None:
        """The joiner's shard 0 is another part than a lane's."""
        assert shares.take("joiner", "a", PARTS, ttl_s=LONG_S) == PARTS
        assert shares.take("lane:challenger", "b", PARTS, ttl_s=LONG_S) == PARTS

    def test_workers_are_listed_with_what_they_hold(self, shares: Shares) -> None:
        """That is what `shadow status` shows."""
        shares.take("joiner", "a", PARTS, ttl_s=LONG_S)
        shares.take("joiner", "b", PARTS, ttl_s=LONG_S)
        assert shares.workers("joiner") == {"a": list(PARTS), "b": []}
        assert shares.workers("router") == {}
