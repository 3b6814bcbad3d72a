"""At most one of several challengers serves people: it takes the seat of its family before it enters a canary, and gives it back after.

The seat is one value, changed by compare-and-set; a chain of records is extended behind one head. Everybody reads the seat first and the
chain after it, and takes the seat naming the head behind which its move will be appended. So a seat may be freed for somebody else once
the chain of its holder has gone past that head without serving: the move for which it was taken can no longer be appended. A controller
that died between the two leaves the seat taken behind the present head; whoever finds that it will not enter after all first moves the
head with the record `yielded`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from harness.core.errors import HeadMoved, RecordError
from harness.core.rollout import Family
from harness.core.stages import Standing, State, serves
from harness.ports.seats import Seat, Seats


class Seating:
    """The seat of a family as one challenger's controller sees it. others: challenger -> asks where its rollout stands."""

    def __init__(self, family: Family, seats: Seats, others: Mapping[str, Callable[[], State]]) -> None:
        self._own, self._seats, self._others = family.challenger, seats, others
        self._seat = Seat()

    def look(self) -> None:
        """Reads the seat; must be called before the chain is read."""
        self._seat = self._seats.load()

    def refused(self) -> tuple[str, ...]:
        """Why the seat cannot be had now, in words; nothing when it can. Takes nothing: a move is weighed only where it could be made."""
        taken = beside(self._others)
        if taken:
            return taken
        seat = self._seat
        if seat.holder not in ("", self._own) and not self._is_free(seat):
            return (f"waits: `{seat.holder}` is about to enter its canary",)
        return ()

    def take(self, state: State) -> tuple[str, ...]:
        """Takes the seat for a move behind the head of this state. Returns why it cannot be had, in words; nothing when it is ours."""
        if refused := self.refused():
            return refused
        seat = self._seat
        if (seat.holder, seat.head) == (self._own, state.head):
            return ()
        return () if self._save(self._own, state.head) else ("waits: the seat of the canary has just changed hands",)

    def tidy(self, state: State) -> bool:
        """Brings the seat in line with where the rollout stands, when it enters nothing now. Returns whether a seat that is not needed
        can only be given back once the head has moved."""
        seat = self._seat
        if seat.holder == "" and serves(state):  # a store that came back without its last second
            self._save(self._own, state.head)
        elif seat.holder == self._own and _left(seat, state):
            self._save("", "")
        return seat.holder == self._own and not serves(state) and not _left(seat, state)

    def _is_free(self, seat: Seat) -> bool:
        where = self._others.get(seat.holder)
        return where is not None and _left(seat, where())

    def _save(self, holder: str, head: str) -> bool:
        wanted = Seat(version=self._seat.version + 1, holder=holder, head=head)
        try:
            self._seats.save(wanted, after=self._seat)
        except HeadMoved:
            return False
        self._seat = wanted
        return True


def _left(seat: Seat, state: State) -> bool:
    """Whether the seat's holder, by its chain as it was read after the seat, does not serve, nor can by the move it took the seat for."""
    return not serves(state) and (state.final or state.head != seat.head)


def beside(others: Mapping[str, Callable[[], State]]) -> tuple[str, ...]:
    """Why no challenger may begin to serve beside these, in words; nothing when none of them serves. others: asks where each stands."""
    said = []
    for name, where in others.items():
        try:
            state = where()
        except RecordError as error:
            said.append(f"waits: nobody knows whether `{name}` serves: {error}")
            continue
        if state.standing is Standing.PROMOTED:
            said.append(f"waits: `{name}` was promoted, so the incumbent is another now; a rollout of another name asks the next question")
        elif serves(state):
            percent = state.spans[-1].percent
            what = f"is in canary at {percent:g} %" if percent < 100.0 else "serves everybody, and its bake is not over"
            said.append(f"waits: `{name}` {what}")
    return tuple(said)
