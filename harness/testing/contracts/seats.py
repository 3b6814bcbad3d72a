"""What every adapter of `ports.seats` keeps."""

from __future__ import annotations

import threading

import pytest

from harness.core.errors import HeadMoved
from harness.ports.seats import Seat, Seats

FAST, EXACT = Seat(version=1, holder="fast", head="a" * 64), Seat(version=1, holder="exact", head="b" * 64)


class SeatsContract:
    """Override `seats`: one that nobody ever had."""

    @pytest.fixture
    def seats(self) -> Seats:
        """A seat that nobody ever had."""
        raise NotImplementedError

    def test_a_seat_is_free_until_it_is_taken_and_then_says_by_whom(self, seats: Seats) -> None:
        """Who comes later must know whom it waits for."""
        assert seats.load() == Seat()
        seats.save(FAST, after=Seat())
        assert seats.load() == FAST
        free = Seat(version=2)
        seats.save(free, after=FAST)
        assert seats.load() == free

    def test_who_read_an_older_seat_is_refused(self, seats: Seats) -> None:
        """Also when it looks the same as it did then: it was another's in between."""
        seats.save(FAST, after=Seat())
        for old in (Seat(), EXACT, Seat(version=1)):
            with pytest.raises(HeadMoved):
                seats.save(Seat(version=2, holder="exact", head="c"), after=old)
        seats.save(Seat(version=2), after=FAST)
        with pytest.raises(HeadMoved):
            seats.save(EXACT, after=Seat())
        assert seats.load() == Seat(version=2)

    def test_of_many_who_take_it_at_once_one_has_it(self, seats: Seats) -> None:
        """The rule that no two challengers serve rests on this."""
        wanted = [Seat(version=1, holder=f"c{n}", head=f"{n}") for n in range(8)]
        had: list[Seat] = []
        start = threading.Barrier(len(wanted))

        def take(seat: Seat) -> None:
            start.wait()
            try:
                seats.save(seat, after=Seat())
            except HeadMoved:
                return
            had.append(seat)

        threads = [threading.Thread(target=take, args=(seat,)) for seat in wanted]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [seats.load()] == had
