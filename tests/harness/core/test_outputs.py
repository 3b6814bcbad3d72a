"""Reading a model's answer: pointers, types, ranges, and numbers made of band probabilities."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.outputs import LONGEST_LABEL, MISSING, all_outputs_reader, pointer, read_outputs
from harness.core.rollout import Output, Reader

EDGES = (8.0, 13.0, 16.0, 18.0, 25.0, 40.0, 80.0)
NO_NUMBERS = ["eighteen", "18.5", "NaN", True, False, None, [], [17.2], {}, math.nan, math.inf, -math.inf, -3, 400, 10**400]

Type = Literal["number", "scores", "label"]


def output(
    how: Any = "field",
    *,
    kind: Type = "number",
    labels: tuple[str, ...] = (),
    at: float | None = None,
    edges: tuple[float, ...] = EDGES,
    limits: tuple[float, float] | None = (0.0, 120.0),
    path: str = "/x",
) -> dict[str, Output]:
    """A config's outputs: one, read by the incumbent."""
    reader = Reader(how=how, pointer=path, edges=() if how == "field" else edges, at=at)
    return {"x": Output(name="x", type=kind, readers={"incumbent": reader}, range=limits, labels=labels)}


def read(outputs: dict[str, Output], value: object, lane: str = "incumbent") -> Any:
    """The one value that is read, or None."""
    found = read_outputs(outputs, lane, {"x": value})
    return None if found is None else found[0]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)
edge_lists = st.lists(st.integers(0, 120), min_size=2, max_size=8, unique=True).map(lambda found: tuple(float(e) for e in sorted(found)))


@st.composite
def banded(draw: st.DrawFn) -> tuple[tuple[float, ...], list[float]]:
    """Rising edges, and probabilities whose weights are small integers, so that ties and empty bands come up."""
    edges = draw(edge_lists)
    n = len(edges) - 1
    weights = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n).filter(any))
    return edges, [weight / sum(weights) for weight in weights]


# ------------------------------------------------------------------------------------------------------------- pointers
RFC = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6, " ": 7, "m~n": 8}


@pytest.mark.parametrize(
    ("path", "found"),
    [("", RFC), ("/foo", ["bar", "baz"]), ("/foo/0", "bar"), ("/", 0), ("/a~1b", 1), ("/c%d", 2), ("/e^f", 3), ("/g|h", 4), ("/i\\j", 5),
     ('/k"l', 6), ("/ ", 7), ("/m~0n", 8)],
)  # fmt: skip
def test_pointers_lead_where_the_standard_says(path: str, found: object) -> None:
    """The table of RFC 6901, section 5."""
    assert pointer(RFC, path) == found


@pytest.mark.parametrize(
    "path", ["foo", "/foo/2", "/foo/-", "/foo/01", "/foo/-1", "/foo/0/x", "/none", "/m~n", "/foo/" + "9" * 5000, "/foo/\u0660"]
)
def test_a_pointer_that_leads_nowhere_is_missing_and_never_an_error(path: str) -> None:
    """A wrong answer is a bad output; it must not stop a lane."""
    assert pointer(RFC, path) is MISSING


def test_null_is_a_value_and_not_missing() -> None:
    """An absent field and one that says null are told apart, as segments and recorded answers need it."""
    assert pointer({"a": None}, "/a") is None
    assert pointer({"a": None}, "/a/b") is MISSING


@given(json_values)
def test_every_place_of_a_document_is_found_by_its_own_pointer(document: Any) -> None:
    """Escaping and descending are each other's inverse, for any key."""

    def places(value: Any, path: str) -> list[tuple[str, Any]]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        below = [place for key, each in items for place in places(each, f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}")]
        return [(path, value), *below]

    assert all(pointer(document, path) is value for path, value in places(document, ""))


# -------------------------------------------------------------------------------------------------------------- numbers
@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: str(value)[:12])
def test_what_is_no_finite_number_inside_the_range_is_a_bad_output(value: object) -> None:
    """Text, true, null, lists, NaN and numbers beyond a float or the range would corrupt sums and losses."""
    assert read(output(), value) is None


@pytest.mark.parametrize("value", [0, 120, 17.25, -0.0, 10**2])
def test_numbers_up_to_the_ends_of_the_range_are_read(value: float) -> None:
    """The range is closed: an age of exactly 120 is an age."""
    found = read(output(), value)
    assert isinstance(found, float)
    assert found == value


def test_without_a_range_any_finite_number_is_read_and_no_infinite_one() -> None:
    """A logit has no range, yet must be finite."""
    free = output(limits=None)
    assert read(free, -1e300) == -1e300
    assert [read(free, value) for value in (math.inf, 10**400, -(10**400), json.loads("1e999"))] == [None] * 4


@given(json_values)
def test_any_answer_is_read_or_bad_and_never_an_error(answer: Any) -> None:
    """A lying model costs its own prediction and nothing else."""
    for outputs in (output(path=""), output("median", path=""), output("tail", at=18.0, path=""), output("expectation", path=""),
                    output(kind="label", path=""), output(kind="scores", labels=("a", "b"), path="")):  # fmt: skip
        found = read_outputs(outputs, "incumbent", answer)
        assert found is None or len(found) == 1


def test_one_bad_output_makes_the_whole_answer_bad() -> None:
    """A prediction is answered or it is not; half an answer would count in some gates only."""
    two = {**output(), "y": Output(name="y", type="label", readers={"incumbent": Reader(how="field", pointer="/y")})}
    assert read_outputs(two, "incumbent", {"x": 3, "y": "cat"}) == (3.0, "cat")
    assert read_outputs(two, "incumbent", {"x": 3}) is None
    assert read_outputs(two, "incumbent", {"x": "3", "y": "cat"}) is None


# ---------------------------------------------------------------------------------------------------------------- lanes
def test_the_replica_reads_as_the_incumbent_unless_it_has_its_own_reader() -> None:
    """It is a second copy of the incumbent, so its answers have the incumbent's shape."""
    outputs = output()
    assert read(outputs, 5, "replica") == 5.0
    own = Reader(how="field", pointer="/y")
    both = {"x": Output(name="x", type="number", readers={**outputs["x"].readers, "replica": own})}
    assert read_outputs(both, "replica", {"x": 5, "y": 6}) == (6.0,)


def test_a_challenger_without_a_reader_has_no_good_output() -> None:
    """Reading it as the incumbent does would compare apples with what was never configured."""
    assert read(output(), 5, "challenger") is None


# ------------------------------------------------------------------------------------------------------ labels and scores
def test_a_label_is_one_of_the_listed_words() -> None:
    """A word nobody listed has no place in a table of decisions."""
    listed = output(kind="label", labels=("ok", "spam"))
    assert [read(listed, value) for value in ("ok", "spam", "SPAM", "", 1, True, None, ["ok"])] == ["ok", "spam"] + [None] * 6


def test_without_a_list_any_short_text_is_a_label() -> None:
    """Long texts are content, and half a surrogate pair cannot be stored."""
    free = output(kind="label")
    assert [read(free, value) for value in ("x" * LONGEST_LABEL, "é😀")] == ["x" * LONGEST_LABEL, "é😀"]
    assert [read(free, value) for value in ("x" * (LONGEST_LABEL + 1), "\ud800")] == [None, None]


@pytest.mark.parametrize("value", [{"b": 0.25, "a": 0.5}, {"b": 0.25, "a": 0.5, "c": "more"}, [0.5, 0.25]])
def test_scores_are_read_in_the_order_of_the_labels(value: object) -> None:
    """Objects have names, lists have places; both give the same tuple."""
    assert read(output(kind="scores", labels=("a", "b"), limits=(0.0, 1.0)), value) == (0.5, 0.25)


@pytest.mark.parametrize(
    "value", [{"a": 0.5}, [0.5], [0.5, 0.25, 0.25], [0.5, None], {"a": 0.5, "b": "x"}, {"a": 0.5, "b": 1.5}, 0.5, "ab", None]
)
def test_scores_that_are_not_a_good_number_for_each_label_are_bad(value: object) -> None:
    """A missing score is no zero."""
    assert read(output(kind="scores", labels=("a", "b"), limits=(0.0, 1.0)), value) is None


# ---------------------------------------------------------------------------------------------------------------- bands
FOUR = (8.0, 13.0, 16.0, 18.0, 80.0)


@pytest.mark.parametrize(
    ("how", "at", "expected"),
    [("median", None, 18 + 0.21 / 0.71 * 62), ("expectation", None, 0.01 * 10.5 + 0.07 * 14.5 + 0.21 * 17 + 0.71 * 49),
     ("tail", 16.0, 0.92), ("tail", 17.0, 0.71 + 0.105), ("tail", 8.0, 1.0), ("tail", 80.0, 0.0), ("tail", 49.0, 0.355)],
)  # fmt: skip
def test_band_probabilities_give_the_numbers_worked_out_by_hand(how: str, at: float | None, expected: float) -> None:
    """The answer of the reference case, [0.01, 0.07, 0.21, 0.71]."""
    assert read(output(how, at=at, edges=FOUR), [0.01, 0.07, 0.21, 0.71]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "value",
    [[0.5, 0.5], [0.2] * 5, [], None, 0.5, {"0": 1.0}, "1111", [0.25, 0.25, 0.25, "0.25"], [1, 0, 0, None], [True, 0, 0, 0],
     [math.nan, 0, 0, 1], [1.01, -0.01, 0, 0], [0.25, 0.25, 0.25, 0.27], [0.25, 0.25, 0.25, 0.23], [0, 0, 0, 0], [1e308, 1e308, 0, 0]],
)  # fmt: skip
def test_what_is_no_distribution_over_the_bands_is_bad(value: object) -> None:
    """Four bands have five edges; a sum far from one, or a clearly negative share, is a broken model and no distribution."""
    assert [read(output(how, at=18.0, edges=FOUR), value) for how in ("median", "expectation", "tail")] == [None] * 3


def test_rounding_of_the_model_is_forgiven_and_divided_out() -> None:
    """Models print three digits; -0.0005 is zero and a sum of 1.008 is one."""
    assert read(output("tail", at=16.0, edges=FOUR), [0.504, -0.0005, 0.0, 0.504]) == 0.5
    assert read(output("tail", at=16.0, edges=FOUR), [0.25, 0.25, 0.25, 0.26]) == pytest.approx(0.51 / 1.01)


def test_a_number_from_bands_must_be_inside_the_range_too() -> None:
    """The range bounds the loss, wherever the number comes from."""
    assert read(output("median", edges=FOUR, limits=(0.0, 17.0)), [0, 0, 0, 1]) is None


@given(banded())
def test_the_median_is_at_or_above_an_edge_exactly_when_half_the_probability_is(case: tuple[tuple[float, ...], list[float]]) -> None:
    """The decision at a line that is an edge is then the model's own: P(value >= line) >= 1/2. Checked with exact fractions."""
    edges, probabilities = case
    median = read(output("median", edges=edges), probabilities)
    for k, edge in enumerate(edges[:-1]):
        tail = read(output("tail", at=edge, edges=edges), probabilities)
        assert (median >= edge) == (tail >= 0.5)
        exact = sum(map(Fraction, probabilities[k:]), Fraction()) / sum(map(Fraction, probabilities), Fraction())
        if abs(exact - Fraction(1, 2)) > Fraction(1, 10**12):
            assert (median >= edge) == (exact > Fraction(1, 2))
    assert edges[0] <= median < edges[-1]


@given(banded(), st.lists(st.floats(-10, 130), min_size=2, max_size=6))
def test_the_tail_falls_as_its_line_rises_and_meets_the_median_at_one_half(
    case: tuple[tuple[float, ...], list[float]], lines: list[float]
) -> None:
    """Tail and median are two views of one distribution."""
    edges, probabilities = case
    tails = [read(output("tail", at=line, edges=edges), probabilities) for line in sorted(lines)]
    assert all(0.0 <= later <= earlier <= 1.0 for earlier, later in pairwise(tails))
    median = read(output("median", edges=edges), probabilities)
    assert read(output("tail", at=median, edges=edges), probabilities) == pytest.approx(0.5, abs=1e-9)


@given(banded(), st.sampled_from(["median", "expectation"]))
def test_moving_probability_one_band_up_never_lowers_the_number(case: tuple[tuple[float, ...], list[float]], how: str) -> None:
    """An older-looking answer may not become a younger age."""
    edges, probabilities = case
    first = next(k for k, probability in enumerate(probabilities) if probability > 0)
    moved = list(probabilities)
    target = min(first + 1, len(moved) - 1)
    if target != first:
        moved[first], moved[target] = 0.0, moved[target] + moved[first]
    before, after = (read(output(how, edges=edges), each) for each in (probabilities, moved))
    assert after >= before - 1e-9


@given(banded())
def test_the_expectation_agrees_with_exact_arithmetic(case: tuple[tuple[float, ...], list[float]]) -> None:
    """A slow second version in fractions."""
    edges, probabilities = case
    weights = [Fraction(p) for p in probabilities]
    mids = [(Fraction(low) + Fraction(high)) / 2 for low, high in pairwise(edges)]
    exact = sum((w * m for w, m in zip(weights, mids, strict=True)), Fraction()) / sum(weights, Fraction())
    assert read(output("expectation", edges=edges), probabilities) == pytest.approx(float(exact), rel=1e-12)


GOOD = {"a": 1.0, "b": 2.0}
said = st.sampled_from([GOOD, {"a": -0.0, "b": 119.5}, {"a": 3.0}, {"a": 7, "b": True}, {"a": 1.0, "b": "x"}, [1.0], None])
strange = st.sampled_from([float("nan"), float("inf"), 121.0, 10**400]).map(lambda number: {"a": number, "b": 1.0})


@given(answers=st.lists(said | strange, max_size=4) | st.lists(st.just(GOOD), max_size=4))
def test_many_answers_are_read_at_once_as_each_by_itself_or_not_at_once(answers: list[Any]) -> None:
    """One answer out of line sends all of them the slow way, and never through."""
    ranged = {"age": Output(name="age", type="number", range=(0.0, 120.0), readers={"challenger": Reader(how="field", pointer="/a")})}
    ranged["more"] = Output(name="more", type="number", readers={"challenger": Reader(how="field", pointer="/b")})
    found = all_outputs_reader(ranged, "challenger")(answers)
    each = [read_outputs(ranged, "challenger", answer) for answer in answers]
    assert found is None or found == each
    assert found is not None or not answers or answers != [GOOD] * len(answers)
