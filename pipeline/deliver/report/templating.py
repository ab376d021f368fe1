"""Templating: the Jinja environment of all pages. Everything is escaped, an undefined name is an error."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup

from pipeline.deliver.report.formatting import FILTERS

_FOLDER = resources.files("pipeline.deliver.report") / "templates"


class Missing(jinja2.StrictUndefined):
    """A name that is not there: whatever is done with it is an error that names it. These two jinja2 leaves out."""

    __abs__ = __format__ = jinja2.StrictUndefined._fail_with_undefined_error


@cache
def environment() -> jinja2.Environment:
    """Templates of this package; autoescape is True for every suffix."""
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(read_template),
        autoescape=True,
        undefined=Missing,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"sort_keys": False, "allow_nan": False, "separators": (",", ":")}
    made.filters.update(FILTERS)
    return made


def compile_templates() -> None:
    """Compile them all now, which takes as long as filling them in; else each is compiled when a page first needs it."""
    for file in _FOLDER.iterdir():
        if file.name.endswith(".j2"):
            environment().get_template(file.name)


@cache
def read_template(name: str) -> str:
    """Text of a file in the templates folder."""
    return (_FOLDER / name).read_text("utf-8")


def our_own(text: str) -> Markup:
    """Mark text as safe to print unescaped. Only for what this package itself wrote: style, script, drawings."""
    return Markup(text)  # noqa: S704


def script_digest(script: str) -> str:
    """The digest by which a page's policy lets its own script run, and no other."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
