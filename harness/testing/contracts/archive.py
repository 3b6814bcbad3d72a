"""What every archive keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from analysis.types import PairTable
from harness.core.errors import RecordError, UsageError
from harness.core.sealed import Sealed, without_ids
from harness.core.table import TableBuilder
from harness.ports.archive import Archive
from harness.ports.observations import ROW
from harness.testing import samples
from harness.testing.shard import Shard

OF = Sealed(rollout="sample", config_sha256="0" * 64, as_of="2023-11-14T23:00:00Z", stage_index=2, since="2023-11-14T22:00:00Z")


def table() -> PairTable:
    """Five events of the sample rollout, one without an answer of the challenger and one with a label, without ids."""
    shard = Shard()
    shard.read(*(samples.event(n, f"e{n}", region="SE" if n % 2 else "ES") for n in range(5)))
    shard.say("incumbent", *(samples.answer(f"e{n}", age=17.0 + n) for n in range(5)))
    shard.say("challenger", *(samples.answer(f"e{n}", age=16.5 + n, status="timeout" if n == 3 else "answered") for n in range(5)))
    shard.read(samples.outcome(6, "e1"))
    data = shard.layout.records(shard.store.rows(0, 5))
    return without_ids(TableBuilder(shard.rollout).build([(data, shard.store.words())]))


def observations() -> dict[str, NDArray[Any]]:
    """Two exposures, one of which names no percent, and a measurement; a source on which nothing came."""
    exposures = rows((0, 1_700_000_000_000_000, 1.0, np.nan), (2**63, 1_700_000_000_000_001, 1.0, 10.0))
    measured = rows((0, 1_700_000_000_000_009, -2.5, 0.1 + 0.2))
    return {"exposures/0": exposures, "appeals/0": measured, "appeals/1": np.empty(0, ROW)}


def rows(*found: tuple[int, int, float, float]) -> NDArray[Any]:
    """Rows of these units, times, values and lower parts."""
    made = np.zeros(len(found), ROW)
    for name, column in zip(("unit", "arrived", "value", "of"), zip(*found, strict=True), strict=True):
        made[name] = column
    return made


def _known(values: Iterable[Any]) -> list[Any]:
    """The values of a column, NaN as None."""
    return [None if value != value else value for value in values]


class ArchiveContract:
    """Override `archive`: an empty one; and `damage`, which changes a byte of what is stored under a hash."""

    @pytest.fixture
    def archive(self) -> Archive:
        """An empty archive."""
        raise NotImplementedError

    @pytest.fixture
    def damage(self) -> Callable[[str], None]:
        """Changes what is stored."""
        raise NotImplementedError

    def test_what_was_sealed_is_opened_again_with_what_it_is_of(self, archive: Archive) -> None:
        """An auditor has the hash from the record, and needs the stage and the look to compute the same numbers."""
        rollout, sealed = samples.rollout(), table()
        columns, of = archive.open(archive.seal(rollout, sealed, OF))
        assert of == OF
        assert set(columns) == set(sealed.columns)
        assert _known(columns["age.challenger"]) == [16.5, 17.5, 18.5, None, 20.5]
        assert _known(columns["missing.challenger"]) == [None, None, None, "timeout", None]
        assert list(columns["segment.region"]) == ["ES", "SE", "ES", "SE", "ES"]

    def test_the_same_table_has_the_same_hash_and_any_other_another(self, archive: Archive) -> None:
        """A decision that is taken up again after a crash names the archive that it named before."""
        rollout, sealed = samples.rollout(), table()
        first = archive.seal(rollout, sealed, OF)
        assert archive.seal(rollout, table(), OF) == first
        ages = sealed["age.challenger"].copy()
        ages[0] = np.nextafter(ages[0], 99.0)
        others = {
            archive.seal(rollout, PairTable({**sealed.columns, "age.challenger": ages}, sealed.words), OF),
            archive.seal(rollout, sealed.take(np.arange(4)), OF),
            archive.seal(rollout, sealed, replace(OF, since=None)),
            archive.seal(rollout, sealed, replace(OF, as_of="2023-11-14T23:00:01Z")),
        }
        assert len(others | {first}) == 5

    def test_an_archive_that_was_changed_or_is_not_there_is_never_opened(self, archive: Archive, damage: Callable[[str], None]) -> None:
        """Numbers from other pairs would look like an honest disagreement."""
        sha256 = archive.seal(samples.rollout(), table(), OF)
        damage(sha256)
        with pytest.raises(RecordError, match="not what was sealed"):
            archive.open(sha256)
        with pytest.raises(UsageError):
            archive.open("f" * 64)

    def test_observations_are_opened_again_as_they_were_sealed(self, archive: Archive) -> None:
        """Row by row in their order, a number that was not said included; a source without a row is not there."""
        sha256 = archive.seal_observations(observations(), OF)
        opened, of = archive.open_observations(sha256)
        assert of == OF
        assert list(opened) == ["appeals/0", "exposures/0"]
        for source, found in opened.items():
            assert found.dtype == np.dtype(ROW)
            assert found.tobytes() == observations()[source].tobytes()
        assert archive.open_observations(archive.seal_observations({}, OF))[0] == {}

    def test_the_same_observations_have_the_same_hash_and_any_other_another(self, archive: Archive) -> None:
        """In whatever order their sources are named."""
        first, other = archive.seal_observations(observations(), OF), observations()
        assert archive.seal_observations(dict(reversed(other.items())), OF) == first
        other["exposures/0"]["value"][1] = 0.0
        others = {archive.seal_observations(other, OF), archive.seal_observations(observations(), replace(OF, since=None)),
                  archive.seal(samples.rollout(), table(), OF)}  # fmt: skip
        assert len(others | {first}) == 4

    def test_observations_that_were_changed_or_are_none_are_never_opened(self, archive: Archive, damage: Callable[[str], None]) -> None:
        """Nor are pairs opened as observations."""
        sha256 = archive.seal_observations(observations(), OF)
        damage(sha256)
        with pytest.raises(RecordError, match="not what was sealed"):
            archive.open_observations(sha256)
        with pytest.raises(RecordError):
            archive.open_observations(archive.seal(samples.rollout(), table(), OF))
        with pytest.raises(UsageError):
            archive.open_observations("f" * 64)
