"""The YAML file behind a TaskConfig: safe reading, line numbers, overrides, and errors that say what to do."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml.comments import CommentedMap

from pipeline.config import yaml_text
from pipeline.config.explanation import explain
from pipeline.config.task import ADDRESSES, TaskConfig
from pipeline.config.yaml_text import MOST_BYTES
from pipeline.errors import ConfigError, UsageError
from pipeline.redact import keep_address_secret

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
    tree = yaml_text.read(text, str(path))
    if not isinstance(tree, CommentedMap):
        held = "nothing" if tree is None else "a list" if isinstance(tree, list) else f"{str(tree)[:40]!r}"
        raise ConfigError(
            f"{path}: a config is a mapping of keys such as `task:` and `dataset:`, this file holds {held}"
        )
    plain = yaml_text.plain(tree)
    for item in overrides:
        _override(plain, item)
    _keep_secrets(plain)
    try:
        config = TaskConfig.model_validate(plain)
    except ValidationError as error:
        raise ConfigError(explain(error, plain, tree, str(path), text.splitlines(), overrides)) from None
    config._source = path.resolve()
    return config


def _keep_secrets(plain: dict[str, Any]) -> None:
    """No message, and nothing that is kept, may show the credentials of the addresses that a config names."""
    for part in plain.values():
        if isinstance(part, dict):
            for key in ADDRESSES & part.keys():
                if isinstance(part[key], str):
                    keep_address_secret(part[key])


def _text(path: Path) -> str:
    try:
        with path.open("rb") as handle:
            raw = handle.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(raw) > MOST_BYTES:
        raise ConfigError(f"{path}: more than {MOST_BYTES:,} bytes; a config may not be larger")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 (byte {error.start}); save the file as UTF-8") from None


def _override(plain: dict[str, Any], item: str) -> None:
    key, equals, value = item.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {item!r}: write key.path=value, for example target.within=0.01")
    node: Any = plain
    parts = key.split(".")
    for part in parts[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {item!r}: {part!r} is a value and has no keys below it")
    try:
        node[parts[-1]] = yaml_text.plain(yaml_text.read(value, "value")) if value else None
    except ConfigError as error:
        raise ConfigError(
            f"--set {item!r}: {value!r} is not a YAML value ({str(error).partition(': ')[2]}); quote text that YAML would read "
            f"otherwise: '{key}=\"text\"'"
        ) from None
