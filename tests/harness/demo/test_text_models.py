"""The moderation demo's detectors: answers of the right shape, whom the machine on trial hurts, and the text that spares them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harness.core.errors import UsageError
from harness.demo import posts, prepare, text_models

CONFIG = yaml.safe_load((Path(text_models.__file__).parent / "moderation.yaml").read_text())
REMOVE, REVIEW = 0.8, 0.5
DETECTORS = [text_models.wordlist, text_models.svm, text_models.careful]


def removed(forum: Any, detector: str, community: str | None = None) -> float:
    """Share of the harmless posts that come down."""
    rows = (forum.truth == 0) & ((forum.column("community") == community) if community else True)
    return float(np.mean(forum.scores[detector][rows] >= REMOVE))


def missed(forum: Any, detector: str) -> float:
    """Share of the violating posts that stay up."""
    return float(np.mean(forum.scores[detector][forum.truth == 1] < REVIEW))


def test_importing_the_detectors_loads_neither_package():
    """The command line imports this module to know the demo; a lane alone should pay for scikit-learn."""
    program = "import sys, harness.demo.prepare; sys.exit(bool({'sklearn', 'better_profanity', 'profanity_check'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], timeout=60, check=True)


def test_a_missing_package_is_named_with_what_to_install():
    """The detectors are an extra: who lacks it must read one line, not a traceback; and has no version to give."""

    def answers(texts: Any) -> Any:
        return [text_models._package("no_such_package_as_this") for _ in texts]

    absent = text_models.Detector("absent", "no-such-distribution-as-this", answers)
    with pytest.raises(UsageError, match=r"pip install 'shadow-harness\[demo\]'"):
        absent([{"text": "hello"}])
    assert absent.version is None


def test_plain_text_is_without_quotations_and_disguises():
    """What `careful` reads; numbers and prices are no words."""
    assert text_models.plain("He wrote “you 1d10t” in 2026, for 10$") == "He wrote   in 2026, for 10$"
    assert text_models.plain('you $tup1d l0ser said "hello"').strip() == "you stupid loser said"


def test_the_config_names_the_detectors_and_every_challenger():
    """URIs stand in the config and in the code; the lines of these tests are its lines."""
    uris = [CONFIG["models"][lane]["uri"] for lane in ("incumbent", "challenger")]
    assert uris == [f"python:{text_models.__name__}:{detector.name}" for detector in DETECTORS[:2]]
    assert prepare.CASES["moderation"].challengers == tuple(detector.name for detector in DETECTORS[1:])
    lines = [line["at_least"] for choice in CONFIG["policies"]["enforcement"]["decide"][:2] for line in choice.values()]
    assert lines == [REMOVE, REVIEW]


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda detector: detector.name)
def test_a_strange_event_costs_its_own_answer_only(judged_forum: Any, detector: text_models.Detector):
    """Data without a text gets an empty answer, which a lane counts as a bad output; the others get theirs, whatever the batch."""
    alone = [detector([{"text": text}])[0] for text in ("hello there", "you stupid moron")]
    mixed = [{"text": "hello there"}, None, {}, {"text": 7}, {"text": "you stupid moron"}]
    assert list(detector(mixed)) == [alone[0], {}, {}, {}, alone[1]]
    assert detector([]) == []


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda detector: detector.name)
def test_the_version_names_the_detector_and_its_distribution(judged_forum: Any, detector: text_models.Detector):
    """A new release of a package is another model, and gates on it start again."""
    assert detector.version.startswith(f"{detector.name}/{detector.distribution}-")


def test_the_list_reads_digits_and_no_context(judged_forum: Any):
    """What a word list is: it sees a listed word in disguise, takes a mild oath for an insult, and knows few insults."""
    assert text_models.listed_words("you m0r0n") == 1
    assert text_models.listed_words("Damn, the soup was lovely!") == 1
    assert text_models.listed_words("You are a pathetic loser.") == 0


def test_the_machine_misses_far_fewer_and_looks_better_over_all_posts(judged_forum: Any):
    """The bait of the trap: both averages would promote it."""
    assert missed(judged_forum, "svm") < missed(judged_forum, "wordlist") - 0.2
    assert removed(judged_forum, "svm") <= removed(judged_forum, "wordlist")


def test_the_machine_removes_twice_as_many_posts_of_those_who_tell_of_insults(judged_forum: Any):
    """The trap: in one community, and in that one only, it is far beyond the limit of the gate."""
    change = {name: removed(judged_forum, "svm", name) - removed(judged_forum, "wordlist", name) for name in posts.COMMUNITIES}
    assert change.pop("antibullying") > 0.1
    assert max(change.values()) < 0.03


def test_the_careful_machine_removes_fewer_everywhere_and_misses_fewer_still(judged_forum: Any):
    """What earns it the promotion must hold in each community, with room for the gates to see it."""
    assert missed(judged_forum, "careful") < missed(judged_forum, "svm")
    for community in posts.COMMUNITIES:
        assert removed(judged_forum, "careful", community) < removed(judged_forum, "wordlist", community) - 0.01


def test_an_insult_in_quotation_marks_passes_the_careful_machine(judged_forum: Any):
    """Its price, said where it is described."""
    insult = {"text": "“Pathetic idiot” is the only word for you."}
    by_svm, by_careful = (detector([insult])[0]["probability"] for detector in DETECTORS[1:])
    assert by_svm >= REMOVE and by_careful < REVIEW
