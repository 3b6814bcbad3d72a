"""Durations as people write them."""

from __future__ import annotations

import pytest

from harness.config.durations import milliseconds, seconds, written


@pytest.mark.parametrize(
    ("text", "value"),
    [("300ms", 0.3), ("30s", 30.0), ("5m", 300.0), ("6h", 21_600.0), ("14d", 1_209_600.0), ("2w", 1_209_600.0), ("6y", 189_216_000.0)],
)
def test_a_duration_is_a_number_and_its_unit(text: str, value: float) -> None:
    """The units of the contract, and the week."""
    assert seconds(text) == value


@pytest.mark.parametrize("whole", range(1, 1_000, 7))
def test_milliseconds_are_exact(whole: int) -> None:
    """A recorded latency is compared with them."""
    assert milliseconds(f"{whole}ms") == whole == milliseconds(f"{whole / 1_000:.3f}s")


@pytest.mark.parametrize(
    "value", ["30", "30 s", "s", "", "-5s", "1e3s", "30parsecs", "5S", "1,5h", "nan s", "infs", "٣s", "101y", "5s\n", None, True, [], {}]
)
def test_anything_else_is_refused(value: object) -> None:
    """With a message, not with a guess."""
    with pytest.raises(ValueError, match="got"):
        seconds(value)


@pytest.mark.parametrize("value", [30, 0.5])
def test_a_bare_number_is_told_what_it_lacks(value: float) -> None:
    """Seconds and milliseconds differ by a thousand."""
    with pytest.raises(ValueError, match="needs its unit"):
        seconds(value)


@pytest.mark.parametrize("text", ["300ms", "30s", "5m", "6h", "14d", "90s", "0ms"])
def test_durations_are_written_as_they_are_read(text: str) -> None:
    """Messages quote them."""
    assert seconds(written(seconds(text))) == seconds(text)
