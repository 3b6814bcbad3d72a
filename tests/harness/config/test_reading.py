"""Files and YAML: what is read as what, and what is said of a file that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import load
from harness.config.problems import Problems
from harness.config.reading import read_yaml
from harness.core.errors import ConfigError, UsageError

GOOD = Path(__file__).parents[3] / "configs" / "recorded-replay.yaml"


def plain(text: str) -> object:
    """What YAML text is read as, without problems."""
    problems = Problems()
    value = read_yaml(text, "test", problems)
    assert problems.found == []
    return value


def refused(tmp_path: Path, text: str | bytes) -> str:
    """The whole message about a file."""
    path = tmp_path / "rollout.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{NO: 13, on: yes}", {"NO": 13, "on": "yes"}),
        ("[true, False, off]", [True, False, "off"]),
        ("[1e-3, .5, 5., -2.5E2]", [0.001, 0.5, 5.0, -250.0]),
        ("[013, 0o17, 0x1f, +5]", [13, 15, 31, 5]),
        ("[2026-03-02, 12:30, 1_000]", ["2026-03-02", "12:30", "1_000"]),
        ("{13: a, 1.50: b, true: c}", {"13": "a", "1.50": "b", "true": "c"}),
        ("['5', \"true\", !!str 5]", ["5", "true", "5"]),
        ("[~, null, ]", [None, None]),
        ("a: &x {n: 1}\nb: *x", {"a": {"n": 1}, "b": {"n": 1}}),
    ],
)
def test_words_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    """A region called NO is Norway, 1e-3 is a number, and 12:30 is not 750."""
    assert plain(text) == value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rollout: [age\ngates: {", "line 2"),
        ("rollout: a\n\tevents: b", "line 2, column 1"),
        ("", "expected a mapping that begins with `rollout: NAME`, got nothing"),
        ("# only a comment\n", "got nothing"),
        ("- rollout: age\n", "got a list"),
        ("rollout", "got one value"),
        ("rollout: a\n---\nrollout: b\n", "line 2"),
        ("rollout: \x07", "line 1"),
        (b"rollout: \xff\xfe", "line 1: this is no UTF-8 text"),
        ("rollout: a\nrollout: b", "rollout: line 2: this key stands twice"),
        ("rollout: a\nevents: {topic: a,\n  topic: b}", "events.topic: line 3: this key stands twice"),
        ("rollout: !!python/object/apply:os.getcwd []", "rollout: line 1: the tag"),
        ("rollout: !!int abc", "rollout: line 1: this is no int"),
        ("? [a, b]\n: c", "line 1: a key must be a word"),
        ("rollout: &a [*a]", "rollout.0: line 1: an alias must not contain itself"),
        ("rollout: " + "[" * 60 + "]" * 60, "nested too deeply"),
        ("rollout: " + "[" * 5_000 + "]" * 5_000, "nested"),
        ("rollout: " + "9" * 5_000, "rollout: line 1: this is no int"),
        ("rollout: " + "9" * 500, "too large"),
    ],
)
def test_what_is_no_config_is_refused_with_its_place(text: str | bytes, words: str, tmp_path: Path) -> None:
    """Every way in which a text can be no config ends in one message, never in a traceback."""
    assert words in refused(tmp_path, text)


def test_a_few_letters_do_not_fill_the_memory(tmp_path: Path) -> None:
    """Aliases of aliases can stand for billions of values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "more than 100000 values" in refused(tmp_path, "\n".join(lines))


def test_keys_that_stand_twice_are_reported_with_all_other_problems(tmp_path: Path) -> None:
    """All problems at once, whichever step finds them."""
    message = refused(tmp_path, GOOD.read_text() + "alpha: 0.05\nalpha: 0.04\nrollout: again\nlooks: soon\n")
    assert "3 problems" in message and all(f"{path}: " in message for path in ("rollout", "alpha", "looks"))


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    """Some editors write one."""
    path = tmp_path / "rollout.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.read_bytes())
    assert load(path).sha256 == load(GOOD).sha256


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A misspelt file name is the commonest mistake of all."""
    with pytest.raises(UsageError, match=r"nowhere\.yaml: no such file"):
        load(tmp_path / "nowhere.yaml")


def test_a_folder_and_a_monster_are_no_configs(tmp_path: Path) -> None:
    """Neither is read."""
    with pytest.raises(UsageError, match="this is a folder"):
        load(tmp_path)
    (tmp_path / "large.yaml").write_bytes(b"#" * (1 << 20) + b"\n")
    with pytest.raises(UsageError, match="too large"):
        load(tmp_path / "large.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        load(GOOD / "inside-a-file.yaml")
