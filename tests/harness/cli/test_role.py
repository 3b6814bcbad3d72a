"""A role in a process of its own: what it does before it is at work."""

from __future__ import annotations

from harness.cli.role import without
from harness.testing.doubles import MemoryShares


def test_a_role_that_is_started_again_takes_at_once_what_the_one_before_it_held():
    """A lease of the dead would keep its parts from everybody for two seconds; those of the living are let be."""
    shares, parts = MemoryShares(), ("0", "1")
    shares.take("joiner", "host:1", parts, ttl_s=60.0)
    assert shares.take("joiner", "host:2", parts, ttl_s=60.0) != parts
    assert without(shares, "joiner", "host:1").take("joiner", "host:2", parts, ttl_s=60.0) == parts
    assert set(without(shares, "joiner", None).workers("joiner")) == {"host:2"}
