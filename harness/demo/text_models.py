"""The detectors of the moderation demo, as they come from the package index, and their batch functions. Nothing is trained here.

- `wordlist` decides today: the word list of better-profanity, digits for letters included; answers `{"score": 1.0, "words": 2}`, a score
  of 1 as soon as one word is on the list. A list knows no context: it takes “this stupid blender” down, and lets most insults pass.
- `svm` is on trial: alt-profanity-check, a linear support vector machine on counts of words with calibrated probabilities; answers
  `{"probability": 0.93}`. It knows far more words and as little of who says them to whom: a quoted insult is an insult to it.
- `careful` is the same machine on another text: what stands in quotation marks is left out, and digits inside words are read as the
  letters that they stand for. Its price: whoever puts an insult in quotation marks passes.

Model URIs are `python:harness.demo.text_models:wordlist` and so on. Importing imports neither package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module, metadata
from typing import Any

from harness.core.errors import UsageError

_EDGES = "“”\"'.,:;?!()"
_QUOTED = re.compile(r"“[^”]*”|\"[^\"]*\"")
_WORD = re.compile(r"\S*[^\W\d_]\S*")  # with a letter at least: 2026 stays a year
_LETTERS = str.maketrans({"4": "a", "@": "a", "3": "e", "1": "i", "0": "o", "5": "s", "$": "s", "7": "t"})


@dataclass(frozen=True, slots=True)
class Detector:
    """A detector as a batch function. `answers`: texts -> an answer each."""

    name: str
    distribution: str
    answers: Callable[[Sequence[str]], Sequence[Mapping[str, Any]]]

    @property
    def version(self) -> str | None:
        """As in `svm/alt-profanity-check-1.9.1`; None where the distribution is not installed. It loads the detector, so that no event
        waits for that."""
        try:
            self.answers(["hello"])
            return f"{self.name}/{self.distribution}-{metadata.version(self.distribution)}"
        except (UsageError, metadata.PackageNotFoundError):
            return None

    def __call__(self, events: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        """An answer for each event's data. Data without a text gets `{}`, which a lane counts as a bad output of that event alone.

        Raises:
            UsageError: the detector is not installed.
        """
        texts = {i: data["text"] for i, data in enumerate(events) if isinstance(data, Mapping) and isinstance(data.get("text"), str)}
        found = dict(zip(texts, self.answers(list(texts.values())), strict=True)) if texts else {}
        return [found.get(i, {}) for i in range(len(events))]


def listed_words(text: str) -> int:
    """How many words of a text are on the list. Its few phrases of several words are not looked for: each word is looked up once."""
    return sum(_listed(word) for word in (part.strip(_EDGES).lower() for part in text.split()) if word)


def plain(text: str) -> str:
    """What `careful` reads: nothing that is quoted, and letters where digits and signs stand for them.

    >>> plain("He called me “a fool” in 2026, the 1d10t")
    'He called me   in 2026, the idiot'
    """
    return _WORD.sub(lambda word: word.group().translate(_LETTERS), _QUOTED.sub(" ", text))


def _by_list(texts: Sequence[str]) -> list[dict[str, Any]]:
    counts = [listed_words(text) for text in texts]
    return [{"score": float(count > 0), "words": count} for count in counts]


def _by_svm(texts: Sequence[str]) -> list[dict[str, Any]]:
    chances = _package("profanity_check").predict_prob(list(texts))
    return [{"probability": round(float(chance), 6)} for chance in chances]


def _by_careful_svm(texts: Sequence[str]) -> list[dict[str, Any]]:
    return _by_svm([plain(text) for text in texts])


wordlist = Detector("wordlist", "better-profanity", _by_list)
svm = Detector("svm", "alt-profanity-check", _by_svm)
careful = Detector("careful", "alt-profanity-check", _by_careful_svm)


@lru_cache(maxsize=65_536)
def _listed(word: str) -> bool:
    """Whether the list has this word; a look goes through the whole list (0.7 ms), so words that come again are kept."""
    return bool(_censor().contains_profanity(word))


@cache
def _censor() -> Any:
    return _package("better_profanity").Profanity()


def _package(name: str) -> Any:
    """The package of a detector. Raises UsageError, saying what to install, when it is missing."""
    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(f"the demo's detectors are not installed ({error}); run: pip install 'shadow-harness[demo]'") from error
