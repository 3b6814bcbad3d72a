"""What every presence keeps."""

from __future__ import annotations

import time

import pytest

from harness.ports.presence import Presence


class PresenceContract:
    """Override `presence`: an empty one."""

    @pytest.fixture
    def presence(self) -> Presence:
        """An empty presence."""
        raise NotImplementedError

    def test_a_roles_last_word_is_the_one_that_counts(self, presence: Presence) -> None:
        """A role that waited and steps again is well: what it said before must not linger."""
        assert presence.all() == {}
        presence.note("router", "waits", "redis://bus:6379: Redis does not answer (ConnectionError)")
        assert (presence.all()["router"].state, presence.all()["router"].why) == (
            "waits", "redis://bus:6379: Redis does not answer (ConnectionError)",
        )  # fmt: skip
        presence.note("router", "steps")
        presence.note("lane:challenger", "stopped")
        assert {role: (seen.state, seen.why) for role, seen in presence.all().items()} == {
            "lane:challenger": ("stopped", ""), "router": ("steps", ""),
        }  # fmt: skip

    def test_a_word_grows_old_until_the_role_speaks_again(self, presence: Presence) -> None:
        """A role that was killed says nothing any more; only the age of its last word shows it."""
        began = time.monotonic()
        presence.note("joiner", "steps")
        presence.note("analyst", "steps")
        first = presence.all()["joiner"].age_s
        at_most = time.monotonic() - began + 1.0  # two clocks
        time.sleep(0.03)  # the clock of a real store cannot be moved by hand
        presence.note("analyst", "steps")
        seen = presence.all()
        assert 0.0 <= first < at_most
        assert seen["joiner"].age_s >= first + 0.03
        assert 0.0 <= seen["analyst"].age_s < seen["joiner"].age_s
