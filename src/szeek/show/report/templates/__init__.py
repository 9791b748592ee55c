"""Templates of the report and the dossier page."""

from __future__ import annotations

from importlib import resources

import jinja2


def read_template(name: str) -> str:
    """Text of a file in this folder."""
    return (resources.files(__name__) / name).read_text(encoding="utf-8")


def open_template(name: str) -> jinja2.Template:
    """A page's template; every text put into it is escaped."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return environment.from_string(read_template(name))
