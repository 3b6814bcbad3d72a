"""What every store of plain ids promises."""

from __future__ import annotations

import pytest

from harness.ports.plainids import PlainId, PlainIds

TEN = [PlainId(n * 100, bytes([n]) * 14, 7 + n % 2, f"e-{n}/é") for n in range(10)]


class PlainIdsContract:
    """Override `plain_ids`: an empty one, and `again`: the same shard, opened anew."""

    @pytest.fixture
    def plain_ids(self) -> PlainIds:
        """An empty store of one shard."""
        raise NotImplementedError

    @pytest.fixture
    def again(self, plain_ids: PlainIds) -> PlainIds:
        """What another process sees of it."""
        raise NotImplementedError

    def test_nothing_is_kept_at_first(self, plain_ids: PlainIds) -> None:
        """And asking for it, or forgetting in it, is no error."""
        plain_ids.keep([])
        assert (dict(plain_ids.between(0, 10_000)), plain_ids.forget(7, before=10_000)) == ({}, 0)

    def test_what_was_kept_is_found_by_whoever_comes_next(self, plain_ids: PlainIds, again: PlainIds) -> None:
        """By ordinals, as rows are read; an id is the text that the producer wrote."""
        plain_ids.keep(TEN)
        assert again.between(0, 1_000) == {one.key: one.id for one in TEN}
        assert again.between(300, 301)[TEN[3].key] == "e-3/é"
        assert TEN[9].key not in again.between(0, 256)

    def test_keeping_again_changes_nothing(self, plain_ids: PlainIds) -> None:
        """A joiner that died before the rows were written keeps them once more."""
        for _ in range(2):
            plain_ids.keep(TEN[:4])
        assert len(plain_ids.between(0, 1_000)) == 4

    def test_of_a_forgotten_unit_no_id_is_left(self, plain_ids: PlainIds, again: PlainIds) -> None:
        """Those of others stay; a second time there is nothing to take."""
        plain_ids.keep(TEN)
        assert (again.forget(8, before=1_000), again.forget(8, before=1_000)) == (5, 0)
        assert sorted(again.between(0, 1_000).values()) == sorted(one.id for one in TEN if one.unit != 8)

    def test_more_ids_than_one_write_takes_are_all_kept(self, plain_ids: PlainIds) -> None:
        """A day's backlog comes in one fold."""
        many = [PlainId(n, n.to_bytes(14, "big"), 7, f"e-{n}") for n in range(3_000)]
        plain_ids.keep(many)
        assert plain_ids.between(0, 3_000) == {one.key: one.id for one in many}
