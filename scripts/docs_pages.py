"""Pages that mkdocs finds elsewhere than in docs/, and two that are written from the code. A hook of mkdocs.yml.

README.md is the site's first page; CONTRIBUTING.md, CHANGELOG.md and others at the root, and examples/, are on the site too, so that
one file serves readers of the repository and of the site. Links between them are made relative to where they lie there.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline import errors  # noqa: E402 - the project need not be installed
from pipeline.__main__ import parser  # noqa: E402
from pipeline.config.providers import PROVIDERS  # noqa: E402
from pipeline.config.task import TaskConfig  # noqa: E402
from pipeline.config.vocabulary import CALIBRATIONS, KINDS, SIGNALS, SPLITS, TARGETS  # noqa: E402

AT_ROOT = {"README.md": "index.md"}
"""Site path of a file, where it is not the file's own."""
ELSEWHERE = (
    "*.md",
    "datasets/*.md",
    "datasets/*/README.md",
    "examples/**/*",
    "action.yml",
    "LICENSE",
    "configs/*.yaml",
    "cascade_threshold/schemas/*.json",
    "pipeline/deliver/report/schemas/*.json",
)
"""Files outside docs/ that the site holds."""
LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)#\s]+)((?:#[^)\s]*)?\))")
NAMES: dict[str, tuple[str, ...]] = {
    "TaskConfig.kind": KINDS,
    "TaskConfig.signal": ("auto", *SIGNALS),
    "TaskConfig.calibration": CALIBRATIONS,
    "TaskConfig.provider": tuple(PROVIDERS),
    "Model.provider": tuple(PROVIDERS),
    "Strong.provider": tuple(PROVIDERS),
    "Target.kind": tuple(TARGETS),
    "Strong.splits": SPLITS,
    "Human.splits": SPLITS,
}
"""Fields whose values are one list of the vocabulary, which a JSON schema does not show."""
BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def site_paths() -> dict[str, str]:
    """Every file of the site, relative to the repository's root -> relative to the site's."""
    found = {
        p.relative_to(ROOT).as_posix(): p.relative_to(ROOT / "docs").as_posix()
        for p in (ROOT / "docs").rglob("*")
        if p.is_file()
    }
    for pattern in ELSEWHERE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            if path.is_file() and "__pycache__" not in path.parts:
                found[name] = AT_ROOT.get(name, name)
    return found | {f"docs/{name}": name for name in WRITTEN}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files from elsewhere and the written pages."""
    for name, place in site_paths().items():
        if not name.startswith("docs/"):
            shown = (
                InclusionLevel.INCLUDED
                if name in AT_ROOT or place in _in_nav(config.nav)
                else InclusionLevel.NOT_IN_NAV
            )
            files.append(File.generated(config, place, abs_src_path=str(ROOT / name), inclusion=shown))
    for place, write in WRITTEN.items():
        files.append(File.generated(config, place, content=write()))
    return files


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """A page of docs/ that nav does not name yet comes last, so that none is lost."""
    assert config.nav is not None
    known = set(_in_nav(config.nav))
    others = sorted(p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md"))
    more = [name for name in others if name not in known]
    if more:
        config.nav.append({"More": more})
    return config


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that hold in the repository, made to hold on the site."""
    places = site_paths()
    source = next((name for name, place in places.items() if place == page.file.src_uri), None)
    if source is None or source.removeprefix("docs/") in WRITTEN:
        return markdown

    def moved(match: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(source), match[2]))  # noqa: PTH118, PTH120 - paths in text
        place = places.get(target)
        here = os.path.dirname(page.file.src_uri)  # noqa: PTH120
        return match[0] if place is None else f"{match[1]}{os.path.relpath(place, here or '.')}{match[3]}"

    return LINK.sub(moved, markdown)


def _in_nav(nav: Any) -> Iterator[str]:
    """The pages that a nav names."""
    for item in nav.values() if isinstance(nav, Mapping) else nav:
        if isinstance(item, str):
            yield item
        else:
            yield from _in_nav(item)


def configuration() -> str:
    """The reference of the configuration, from the models that check it."""
    schema = TaskConfig.model_json_schema()
    told = [
        "# Configuration",
        "",
        "Written from the models that check a config (`pipeline/config`). YAML 1.2; an unknown key is an error, and "
        "`--set key.path=value` changes one key for one command.",
        "",
    ]
    texts = _docstrings()
    parts = {name.split("__")[-1]: part for name, part in schema["$defs"].items()}
    for name, part in {"TaskConfig": schema, **{name: parts[name] for name in _as_used(schema, parts)}}.items():
        told += [f"## {'The config' if name == 'TaskConfig' else name}", "", texts.get(name, ""), ""]
        told += ["| key | value | left out | meaning |", "|---|---|---|---|"]
        for key, value in part["properties"].items():
            default = "required" if key in part.get("required", ()) else _default(value)
            told.append(
                f"| `{key}` | {_kind(value, f'{name}.{key}')} | {default} | {_cell(texts.get(f'{name}.{key}', ''))} |"
            )
        told.append("")
    return "\n".join(told)


def _as_used(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, None]:
    """The parts of a config in the order in which a reader meets them."""
    found: dict[str, None] = {}
    for reference in re.findall(r"#/\$defs/(\w+)", str(schema["properties"])):
        name = reference.split("__")[-1]
        if name not in found:
            found |= {name: None} | _as_used(parts[name], parts)
    return found


def _docstrings() -> dict[str, str]:
    """Docstring of every class of the config and of its fields: `Class` and `Class.field` -> text."""
    found: dict[str, str] = {}
    package = griffe.load("pipeline.config", search_paths=[str(ROOT)], submodules=True)
    classes = {c.name: c for m in package.modules.values() for c in m.classes.values()}
    for name, made in classes.items():
        for base in [*(str(b).split(".")[-1] for b in made.bases), name]:
            if base in classes:
                found |= {f"{name}.{k}": a.docstring.value for k, a in classes[base].attributes.items() if a.docstring}
        if made.docstring:
            found[name] = made.docstring.value
    return found


def _bounds(value: Mapping[str, Any]) -> str:
    """The limits of a number, in words."""
    return " ".join(f"{word} {value[bound]:g}" for bound, word in BOUNDS.items() if bound in value)


def _kind(value: Mapping[str, Any], where: str) -> str:
    """What a value may be, in words."""
    if where in NAMES:
        return ("list of " if where.endswith("splits") else "") + ", ".join(f"`{n}`" for n in NAMES[where])
    if "$ref" in value:
        name = value["$ref"].split("/")[-1].split("__")[-1]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf"):
        if several in value:
            kinds = dict.fromkeys(_kind(v, "") for v in value[several] if v.get("type") != "null")
            kinds.pop("whole number", None) if "number" in kinds else None
            return f"{' or '.join(kinds)} {_bounds(value)}".strip()
    if "const" in value or "enum" in value:
        return ", ".join(
            f"`{str(v).lower() if isinstance(v, bool) else v}`" for v in value.get("enum", [value.get("const")])
        )
    plain = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    kind = value.get("type")
    if value.get("format") == "date":
        return "date"
    if kind == "array":
        return f"list of {_kind(value.get('items', {}), '')}"
    if kind == "object":
        inner = value.get("additionalProperties")
        return f"mapping of names to {_kind(inner if isinstance(inner, dict) else {}, '')}"
    return f"{plain.get(kind or '', 'any value')} {_bounds(value)}".strip()


def _default(value: Mapping[str, Any]) -> str:
    default = value.get("default")
    if default is None or default in ("", {}, []):
        return "nothing"
    if isinstance(default, Mapping):
        return "`{" + ", ".join(f"{k}: {v}" for k, v in default.items() if v is not None) + "}`"
    return f"`{', '.join(default) if isinstance(default, list | tuple) else default}`"


def _cell(text: str) -> str:
    """Text that fits into a table."""
    return " ".join(text.split()).replace("|", "\\|")


def commands() -> str:
    """The reference of the commands, from the parser that reads them."""
    os.environ["COLUMNS"] = "110"  # how wide the parser writes
    top = parser()
    (choices,) = [action.choices for action in top._actions if isinstance(action.choices, dict)]
    told = [
        "# Commands",
        "",
        "Written from the command line's own parser: what `python -m pipeline COMMAND --help` says. Installed, the "
        "same is called `cascade-threshold COMMAND`.",
        "",
        "```text",
        top.format_help().strip(),
        "```",
        "",
    ]
    for name, sub in choices.items():
        told += [f"## {name}", "", "```text", sub.format_help().strip(), "```", ""]
    tree = (errors.__doc__ or "").split("\n\n")[1]
    told += [
        "## Exit codes",
        "",
        "```text",
        tree,
        "```",
        "",
        "## make",
        "",
        "In a clone, each target makes its own `.venv`. `TASK=`, `PROVIDER=` and `ARGS=` are passed on.",
        "",
        "| target | what it does |",
        "|---|---|",
    ]
    targets = re.findall(r"^([a-z-]+):.*?## (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    return "\n".join([*told, *(f"| `make {name}` | {_cell(text)} |" for name, text in targets), ""])


WRITTEN = {"reference/configuration.md": configuration, "reference/commands.md": commands}
"""Pages written from the code: site path -> text."""
