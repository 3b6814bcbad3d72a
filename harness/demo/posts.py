"""A forum's posts, made up: templates and word lists, each with its true class by construction. No text comes from any data set.

Why made up: the words stand on the bus only, and the truth is known for every post. What is real is what judges them (`text_models`).
The insults are mild on purpose; the rest is what detectors trip over: rough words about things, words that people use of themselves,
names of groups, insults that are quoted by those who got them, and letters written as digits.

Kinds, and the class that follows:

- `everyday`, `rough` (about a thing, never a person), `identity` (somebody tells of themselves), `reclaimed` (a rough word for one's own
  group, in kindness), `quoted` (an insult that somebody tells of, to complain): harmless.
- `insult` (of the reader), `exclusion` (somebody is told to leave, with no bad word at all), `disguised` (an insult in digits): violating.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

VIOLATING = ("insult", "exclusion", "disguised")
HARMLESS = ("everyday", "rough", "identity", "reclaimed", "quoted")

# Of each community: the share of violating posts, then the mix of kinds among the harmless and among the violating ones.
COMMUNITIES: Mapping[str, tuple[float, tuple[float, ...], tuple[float, ...]]] = {
    "games": (0.30, (0.62, 0.26, 0.03, 0.05, 0.04), (0.62, 0.12, 0.26)),
    "football": (0.28, (0.67, 0.23, 0.03, 0.03, 0.04), (0.66, 0.16, 0.18)),
    "cooking": (0.10, (0.88, 0.07, 0.03, 0.00, 0.02), (0.72, 0.16, 0.12)),
    "faith": (0.18, (0.62, 0.03, 0.26, 0.01, 0.08), (0.46, 0.40, 0.14)),
    "rainbow": (0.22, (0.46, 0.04, 0.30, 0.10, 0.10), (0.46, 0.36, 0.18)),
    "antibullying": (0.14, (0.50, 0.04, 0.06, 0.02, 0.38), (0.66, 0.20, 0.14)),
}

# The common ones first: a word is picked as often as in life, the one at place k in proportion to 1/k (Zipf).
_NOUNS = (
    "idiot", "loser", "moron", "clown", "coward", "creep", "liar", "jerk", "fool", "weirdo", "pig", "imbecile", "parasite", "rat", "dummy",
    "nitwit", "waste of space", "muppet", "dimwit", "piece of garbage",
)  # fmt: skip
_ADJECTIVES = (
    "pathetic", "stupid", "dumb", "disgusting", "useless", "ugly", "worthless", "clueless", "sad", "miserable", "brainless", "spineless",
)  # fmt: skip
_GROUPS = {
    "faith": ("muslim", "christian", "jewish", "hindu", "buddhist", "catholic", "sikh"),
    "rainbow": ("gay", "lesbian", "bisexual", "trans", "queer", "nonbinary"),
    "": ("black", "asian", "latina", "deaf", "blind", "disabled", "gay", "muslim", "jewish", "roma"),
}
_PLURALS = {
    "faith": ("muslims", "christians", "jews", "hindus", "catholics", "sikhs"),
    "rainbow": ("gay people", "lesbians", "trans people", "bisexuals", "queer people"),
    "": ("foreigners", "old people", "beginners", "muslims", "gay people", "disabled people", "girls"),
}
_WORDS: Mapping[str, Sequence[str]] = {
    "when": ("last night", "this morning", "yesterday", "on Sunday", "after work", "over the weekend", "on the way home", "again"),
    "who": ("my brother", "my sister", "my neighbour", "a friend", "my dad", "my aunt", "our coach", "my roommate", "my partner"),
    "good": ("lovely", "great", "really good", "better than expected", "worth it", "a nice surprise", "perfect", "not bad at all"),
    "ask": ("Any tips?", "Has anybody tried that?", "What do you think?", "Thanks in advance!", "Is it just me?", "Let me know.", "", ""),
    "place": ("in the canteen", "at school", "in the comments", "on the bus", "in a private message", "under my photo", "at work"),
    "family": ("brother", "sister", "mum", "dad", "daughter", "son", "cousin", "friend", "boss", "teacher"),
}
_THINGS: Mapping[str, Sequence[str]] = {
    "games": ("boss fight", "update", "loading screen", "controller", "server", "tutorial", "final level", "matchmaking"),
    "football": ("referee decision", "offside rule", "away game", "stadium queue", "penalty", "transfer window", "second half", "pitch"),
    "cooking": ("oven", "blender", "sourdough starter", "lasagne", "pancake batter", "new pan", "soup", "pie crust"),
    "faith": ("choir rehearsal", "parish newsletter", "bake sale", "youth trip", "reading group", "sermon", "sound system", "heating"),
    "rainbow": ("parade route", "book club", "film night", "new flag", "drag brunch", "choir", "quiz night", "group chat"),
    "antibullying": ("waiting list", "first session", "meeting", "breathing exercise", "new counsellor", "form", "hotline", "journal"),
}
_EVERYDAY = (
    "Finally got through the {thing} {when} and it was {good}. {ask}",
    "How do you deal with the {thing}? {who} says it gets easier. {ask}",
    "The {thing} {when} was {good}, thanks to everybody who helped.",
    "Is the {thing} open {when}? I would like to bring {who}.",
    "I talked with {who} about the {thing} and we both think it was {good}.",
    "Photos from the {thing} are up, {who} took most of them. {ask}",
    "Does anybody have notes on the {thing}? I missed it {when}.",
    "New here. {who} told me about the {thing}, looking forward to it!",
    "{who} and I will look at the {thing} {when}. Who comes along?",
    "Small question about the {thing}: how long does it usually take? {ask}",
)
_ROUGH = (
    "This stupid {thing} cost me the whole evening.",
    "The {thing} sucks {when}, what a mess. {ask}",
    "Damn, the {thing} was {good}!",
    "What the hell happened to the {thing} {when}?",
    "Oh crap, I forgot the {thing}. {who} will laugh at me.",
    "The {thing} is garbage since last week. {ask}",
    "That {thing} was damn hard, but we killed it {when}.",
    "The {thing} is an ugly piece of junk and I love it.",
    "I screwed up the {thing} {when}, my own fault.",
    "The {thing} is so dumb that it is {good} again.",
    "Hell yes, the {thing} is {good}!",
    "God, the {thing} was a pain in the neck {when}.",
)
_IDENTITY = (
    "As a {group} person I felt very welcome at the {thing}. {ask}",
    "My {group} {family} comes to the {thing} {when} too.",
    "I am {group}, and this community means a lot to me.",
    "My {family} is {group} and asked about the {thing} {when}.",
    "Any other {group} members here? The {thing} was {good}.",
    "Growing up {group} was not always easy, but the {thing} helped.",
    "We are a {group} couple and new to the {thing}. {ask}",
    "Is there a {group} group for the {thing}? {ask}",
)
_RECLAIMED = (
    "Proud {adjective} {noun} of the team here, see you at the {thing}!",
    "Love you all, you wonderful weirdos. The {thing} was {good}.",
    "We queers stick together, see you at the {thing} {when}.",
    "Me, the {noun} who forgot the {thing} {when}. Sorry everybody!",
    "Gay as hell and happy about it. The {thing} was {good}.",
    "Only us idiots are still awake for the {thing}. Love it.",
)
_QUOTED = (
    "Somebody called me “{adjective} {noun}” {place} and it still hurts.",
    "He wrote “you are a {noun}” {place}. How do I report that?",
    "My {family} was called a {noun} {place} {when}. What can we do?",
    "Please do not call anybody “{adjective}” here, that is how it began for me.",
    "I got “shut up, {noun}” as an answer {place}. That is not ok.",
    "When they said “nobody likes you, {noun}” {place} I stopped going there.",
    "Telling a {group} kid “you are {adjective}” is bullying. {ask}",
    "“{adjective} {noun}” was the nicest thing they said to me {place}.",
)
_INSULT = (
    "You are a {adjective} {noun}.",
    "Shut up, you {noun}.",
    "What a {adjective} {noun} you are, go and cry about the {thing}.",
    "Only a {noun} like you would post that about the {thing}.",
    "You {adjective} {noun}, nobody asked you.",
    "How {adjective} can you be? Learn to read, {noun}.",
    "Everybody here knows that you are {adjective}.",
    "You and your whole family are {adjective}.",
    "Typical {noun}. You make the {thing} worse for everybody.",
    "Look at this {noun}, still talking about the {thing}.",
    "Your “help” with the {thing} is as {adjective} as you are, {noun}.",
    "“{noun}” is the only word for you.",
)
_EXCLUSION = (
    "Nobody wants {plural} at the {thing}. Go away.",
    "{plural} should not be allowed to post here.",
    "People like you have no place at the {thing}.",
    "Go back to where you came from and leave the {thing} to us.",
    "{plural} ruin the {thing} every single time.",
    "We would all be better off without {plural} here.",
    "Do us a favour and disappear, nobody will miss you.",
    "I know where you live. Do not come to the {thing}.",
    "The {thing} was fine until {plural} came.",
)
_TEMPLATES: Mapping[str, Sequence[str]] = {
    "everyday": _EVERYDAY,
    "rough": _ROUGH,
    "identity": _IDENTITY,
    "reclaimed": _RECLAIMED,
    "quoted": _QUOTED,
    "insult": _INSULT,
    "exclusion": _EXCLUSION,
    "disguised": _INSULT,
}
_DIGITS = {"a": "4@", "e": "3", "i": "1", "o": "0", "s": "5$", "t": "7", "l": "1"}


def text(rng: np.random.Generator, community: str, kind: str, *, surface: str) -> str:
    """One post of this kind. In a chat it is written small and without full stops."""
    words = {slot: _pick(rng, choices) for slot, choices in _WORDS.items()}
    words["thing"] = _pick(rng, _THINGS[community])
    own = community if rng.random() < 0.7 else ""
    words["group"] = _pick(rng, _GROUPS.get(own, _GROUPS[""]))
    words["plural"] = _pick(rng, _PLURALS.get(own, _PLURALS[""]))
    words["noun"], words["adjective"] = _common(rng, _NOUNS), _common(rng, _ADJECTIVES)
    if kind == "disguised":
        words["noun"], words["adjective"] = (disguised(rng, words[slot]) for slot in ("noun", "adjective"))
    written = _pick(rng, _TEMPLATES[kind]).format(**words).strip()
    written = written[:1].upper() + written[1:]
    return written.lower().rstrip(".") if surface == "chat" else written


def disguised(rng: np.random.Generator, word: str) -> str:
    """The word with about half of its letters as digits and signs, and at least one where it has one to change."""
    can = [place for place, letter in enumerate(word) if letter in _DIGITS]
    if not can:
        return word
    chosen = {place for place in can if rng.random() < 0.5} or {can[int(rng.integers(len(can)))]}
    return "".join(_pick(rng, _DIGITS[letter]) if place in chosen else letter for place, letter in enumerate(word))


def kind_of(rng: np.random.Generator, community: str, *, violating: bool) -> str:
    """A kind of this class, as often as the community has it."""
    _, harmless, bad = COMMUNITIES[community]
    kinds, shares = (VIOLATING, bad) if violating else (HARMLESS, harmless)
    return kinds[int(rng.choice(len(kinds), p=shares))]


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _common(rng: np.random.Generator, choices: Sequence[str]) -> str:
    weights = 1.0 / np.arange(1, len(choices) + 1)
    return choices[int(rng.choice(len(choices), p=weights / weights.sum()))]
