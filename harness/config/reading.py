"""YAML text -> plain values (dict, list, str, int, float, bool, None). YAML 1.2 words: only true and false are booleans, so that
the region NO stays a text; keys are always texts. Nothing but data is built, whatever tags the text carries.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from yaml import MappingNode, MarkedYAMLError, Node, ScalarNode, SequenceNode, YAMLError
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader, ReaderError
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from harness.config.problems import Problems, Steps
from harness.core.errors import ConfigError, Problem, UsageError

_LARGEST_FILE_BYTES = 1 << 20
_MOST_VALUES = 100_000
_DEEPEST = 40
_TAG = "tag:yaml.org,2002:"


class _Resolver(BaseResolver):
    """What a plain scalar is: the core schema of YAML 1.2, filled in below (the base class has no words of its own)."""


_NUMBER_STARTS = list("-+0123456789.")
_Resolver.add_implicit_resolver(_TAG + "null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Resolver.add_implicit_resolver(_TAG + "bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Resolver.add_implicit_resolver(_TAG + "int", re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), _NUMBER_STARTS)
_Resolver.add_implicit_resolver(
    _TAG + "float",
    re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"),
    _NUMBER_STARTS,
)


class _Loader(Reader, Scanner, Parser, Composer, _Resolver):
    """Text -> nodes with their lines; no constructor, so that no tag can build an object."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _Resolver.__init__(self)


def read_file(path: Path) -> str:
    """The text of a config file.

    Raises:
        UsageError: there is no such file, it is a folder, it cannot be read, or it is far too large.
        ConfigError: it is no UTF-8.
    """
    try:
        if path.is_dir():
            raise UsageError(f"{path}: this is a folder, expected a rollout's YAML file")
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file, expected a rollout's YAML file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{path}: cannot be read ({reason})") from error
    if len(data) > _LARGEST_FILE_BYTES:
        raise UsageError(f"{path}: more than {_LARGEST_FILE_BYTES >> 20} MiB, too large for a rollout config")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(str(path), [Problem("", f"line {line}: this is no UTF-8 text")]) from None


def read_yaml(text: str, source: str, problems: Problems) -> object:
    """The plain value of one YAML document; keys that stand twice and foreign tags are added to `problems`.

    Raises:
        ConfigError: the text is no YAML; the message has line and column.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        return _Plain(problems).value(node, ()) if node is not None else None
    except ReaderError as error:
        line = text[: error.position].count("\n") + 1 if isinstance(error.position, int) else 1
        message = f"line {line}: YAML does not allow the character {error.character!r}"
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        message = f"{where}this is no YAML: {error.problem}{f' ({error.context})' if error.context else ''}"
    except YAMLError as error:
        message = f"this is no YAML: {error}"
    except RecursionError:
        message = f"nested deeper than {_DEEPEST} levels"
    raise ConfigError(source, [Problem("", message)])


@dataclass(slots=True)
class _Plain:
    """Nodes -> plain values, within bounds (an alias may stand for a lot)."""

    problems: Problems
    values: int = 0
    above: list[int] = field(default_factory=list)

    def value(self, node: Node, path: Steps) -> object:
        self.values += 1
        if self.values > _MOST_VALUES:
            return self._refused(node, path, f"more than {_MOST_VALUES} values (aliases counted each time)")
        if id(node) in self.above or len(self.above) > _DEEPEST:
            return self._refused(node, path, "an alias must not contain itself" if id(node) in self.above else "nested too deeply")
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        self.above.append(id(node))
        try:
            if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
                return [self.value(item, (*path, number)) for number, item in enumerate(node.value)]
            if isinstance(node, MappingNode) and node.tag == _TAG + "map":
                return self._mapping(node, path)
        finally:
            self.above.pop()
        return self._refused(node, path, f"the tag {node.tag} is not allowed")

    def _mapping(self, node: MappingNode, path: Steps) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, item in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                self.problems.add(path, f"line {line}: a key must be a word")
            elif key.value in found:
                self.problems.add((*path, key.value), f"line {line}: this key stands twice")
            else:
                found[key.value] = self.value(item, (*path, key.value))
        return found

    def _scalar(self, node: ScalarNode, path: Steps) -> object:
        build = _SCALARS.get(node.tag)
        if build is None:
            return self._refused(node, path, f"the tag {node.tag} is not allowed")
        try:
            return build(node.value)
        except (ValueError, KeyError):
            return self._refused(node, path, f"this is no {node.tag.removeprefix(_TAG)}")

    def _refused(self, node: Node, path: Steps, message: str) -> object:
        self.problems.add(path, f"line {node.start_mark.line + 1}: {message}")
        return None


def _int(text: str) -> int:
    return int(text, 0) if text.startswith(("0o", "0x")) else int(text)


def _float(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _bool(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


def _null(text: str) -> None:
    return None


_SCALARS: dict[str, Callable[[str], object]] = {
    _TAG + "str": str,
    _TAG + "int": _int,
    _TAG + "float": _float,
    _TAG + "bool": _bool,
    _TAG + "null": _null,
}
