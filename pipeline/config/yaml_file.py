"""The YAML file behind a TaskConfig: safe reading, line numbers, overrides, and errors that say what to do."""

from __future__ import annotations

import difflib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.tokens import AliasToken

from pipeline.config.task import TaskConfig
from pipeline.errors import ConfigError, UsageError

MAX_BYTES = 1_000_000
MAX_ALIASES = 50
CONFIGS = Path("configs")
WHENCE = (
    "run in the folder that holds configs/, give a path to a config, make one for your rows with "
    "`python -m pipeline new NAME --from FILE`, or get the bundled tasks with `python -m pipeline demo DIR`"
)
"""What to do where a config is not found."""


def find(task: str, configs: Path = CONFIGS) -> Path:
    """The config file of a task's name or of a path. Raises UsageError with the names that exist."""
    path = Path(task)
    if path.suffix in (".yaml", ".yml") or "/" in task or "\\" in task:
        if not path.is_file():
            raise UsageError(f"{task}: there is no such config file")
        return path
    candidate = configs / f"{task}.yaml"
    if candidate.is_file():
        return candidate
    names = known_tasks(configs)
    hint = difflib.get_close_matches(task, names, 1)
    meant = f" Did you mean {hint[0]!r}?" if hint else ""
    raise UsageError(
        f"unknown task {task!r}: no {candidate} here.{meant} Tasks: {', '.join(names) or 'none'}. "
        + (
            "Give a name from configs/, a path to a config, or 'all'."
            if names
            else WHENCE[0].upper() + WHENCE[1:] + "."
        )
    )


def known_tasks(configs: Path = CONFIGS) -> list[str]:
    """Names of the tasks in a folder of configs, sorted."""
    return sorted(p.stem for p in configs.glob("*.yaml"))


def load(path: Path, overrides: Sequence[str] = ()) -> TaskConfig:
    """Read, check and freeze a config. `overrides` are `key.path=value` with a YAML value.

    Raises ConfigError that names file, line, key, value, rule and remedy for every fault found.
    """
    text = _text(path)
    tree = _tree(text, path)
    plain = _plain(tree)
    for item in overrides:
        _override(plain, item)
    try:
        config = TaskConfig.model_validate(plain)
    except ValidationError as error:
        raise ConfigError(_explain(error, tree, path, text.splitlines(), overrides)) from None
    config._source = path.resolve()
    return config


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: {len(raw):,} bytes; a config has at most {MAX_BYTES:,}")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (byte {error.start}); save the file as UTF-8") from None


def _tree(text: str, path: Path) -> CommentedMap:
    yaml = YAML(typ="rt")
    yaml.allow_duplicate_keys = False
    try:
        if sum(isinstance(token, AliasToken) for token in yaml.scan(io.StringIO(text))) > MAX_ALIASES:
            raise ConfigError(f"{path}: more than {MAX_ALIASES} YAML aliases; write the values out")
        tree = YAML(typ="rt").load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        problem = str(error.problem).split(" with value")[0]
        raise ConfigError(f"{path}:{line}: {problem}; keep one of the two") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(
            f"{where}: not valid YAML: {error.problem or error.context}; check indentation, colons and quotes there"
        ) from None
    except YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(tree, CommentedMap):
        raise ConfigError(
            f"{path}: a config is a mapping of keys such as `task:` and `dataset:`, this file holds {type(tree).__name__}"
        )
    return tree


def _plain(node: Any) -> Any:
    """YAML nodes as plain Python values (ruamel's scalars carry formatting)."""
    if isinstance(node, CommentedMap):
        return {(str(k) if isinstance(k, str) else k): _plain(v) for k, v in node.items()}
    if isinstance(node, CommentedSeq):
        return [_plain(v) for v in node]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return node if kind is bool else kind(node)
    return node


def _override(plain: dict[str, Any], item: str) -> None:
    key, equals, value = item.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {item!r}: write key.path=value, for example target.within=0.01")
    node: Any = plain
    parts = key.split(".")
    for part in parts[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {item!r}: {part!r} holds a value, it has no keys below it")
    try:
        node[parts[-1]] = _plain(YAML(typ="rt").load(value)) if value else None
    except YAMLError:
        raise ConfigError(
            f"--set {item!r}: {value!r} is not a YAML value; quote text that YAML would read otherwise: '{key}=\"text\"'"
        ) from None


def _line(tree: Any, loc: Sequence[int | str]) -> int | None:
    """Line (from 1) of the deepest part of `loc` that the file has."""
    line = None
    for part in loc:
        try:
            if isinstance(tree, CommentedMap) and part in tree:
                line = tree.lc.key(part)[0] + 1
            elif isinstance(tree, CommentedSeq) and isinstance(part, int) and part < len(tree):
                line = tree.lc.item(part)[0] + 1
            else:
                continue
        except (KeyError, AttributeError, TypeError):
            break
        tree = tree[part]
    return line


_CREDENTIALS = re.compile(r"//[^/\s@]*@")
"""User name and password of an address, which no message may show."""


def _explain(error: ValidationError, tree: CommentedMap, path: Path, lines: list[str], overrides: Sequence[str]) -> str:
    seen: dict[tuple[str, str], str] = {}
    for fault in error.errors():
        # the tags of the two kinds of strong side are no keys of the file
        loc = tuple(p for p in fault["loc"] if not str(p).startswith("<"))
        key = ".".join(str(p) for p in loc) or "config"
        line = _line(tree, loc)
        given = next((item for item in overrides if key.startswith(item.partition("=")[0])), None)
        where = f"--set {given}" if given else f"{path}:{line}" if line else str(path)
        seen.setdefault((key, fault["type"]), f"{where}: {key}: {_rule(fault, loc, lines, line)}")
    return _CREDENTIALS.sub("//", "\n".join(seen.values()))


def _rule(fault: Any, loc: tuple[int | str, ...], lines: list[str], line: int | None) -> str:
    kind, value = fault["type"], fault.get("input")
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(loc[-1]), sorted(_KEYS), 1, 0.6)
        if near and near[0] == str(loc[-1]):
            return "this key does not belong here; check the indentation, and what stands beside it"
        return "unknown key" + (f"; did you mean {near[0]!r}?" if near else "; remove it or check the spelling")
    if kind == "missing":
        return "is required and missing"
    if kind == "string_type" and not isinstance(value, str | dict | list) and value is not None:
        text = lines[line - 1].strip() if line and line <= len(lines) else ""
        return f"must be text, but YAML reads {value!r} ({type(value).__name__}) here ({text!r}); put it in quotes, spelled exactly as the data has it"
    message = str(fault["msg"]).removeprefix("Value error, ")
    shown = "" if kind == "value_error" and isinstance(value, dict | BaseModel) else f", got {value!r}"
    return f"{message}{shown[:200]}"


def _all_keys(model: type[BaseModel], found: set[str]) -> set[str]:
    for name, field in model.model_fields.items():
        found.add(name)
        stack = [field.annotation]
        while stack:
            kind = stack.pop()
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                _all_keys(kind, found)
            stack.extend(get_args(kind))
    return found


_KEYS = _all_keys(TaskConfig, set())
