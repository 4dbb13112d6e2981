"""From a declared chart to an image: vl-convert draws it, without a browser and without the network.

The SVG in the page is parsed and written anew: only shapes and words are left, its ids carry the chart's name so that
two charts on a page do not meet, and it says in words what it shows.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from lingraft.progress import say
from lingraft.report.words import plain

SVG = "http://www.w3.org/2000/svg"
SHAPES = frozenset({"svg", "g", "path", "rect", "line", "circle", "text", "tspan", "defs", "clipPath", "linearGradient",
                    "stop"})


NEEDED = ("altair", "vl_convert")


def chart_packages_missing(page: Path) -> bool:
    """Say whether a package that draws is missing; if so, print which, and how the charts get into `page` later.

    A compute node often has neither package. A finished run must not fail there for want of a picture.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        say(f"{page.name}: written without charts ({', '.join(missing)} not installed); to draw them, copy the "
            "folder to a machine that has altair and vl-convert-python and run `lingraft report` on it")
    return bool(missing)


def draw_svg(chart: Any, *, background: str | None = None) -> str:
    """Return a chart as SVG; without a background it takes the colour of what is behind it."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(specification(chart, background), vl_version=_version()))


def draw_png(chart: Any) -> bytes:
    """Return a chart as PNG on white, twice as fine as it is wide."""
    import vl_convert

    return bytes(vl_convert.vegalite_to_png(specification(chart, "white"), vl_version=_version(), scale=2))


def _version() -> str:
    import altair as alt
    import vl_convert

    wanted = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    known = vl_convert.get_vegalite_versions()
    return wanted if wanted in known else str(known[-1])


def specification(chart: Any, background: str | None) -> dict[str, Any]:
    """Return the declared chart as Vega-Lite, its words made plain: a control character would make the SVG no XML."""
    return {**_plain(chart.to_dict()), "background": background or "transparent"}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return plain(value) if isinstance(value, str) else value


def inlined(svg: str, name: str, label: str) -> str:
    """Return an SVG for the middle of a page: safe, with its own ids, and with a label for those who do not see it."""
    ET.register_namespace("", SVG)
    root = ET.fromstring(svg)  # noqa: S314 - vl-convert wrote it just now
    _keep_shapes(root)
    ids = [value for element in root.iter() if (value := element.get("id"))]
    names = {old: f"{name}-{place}" for place, old in enumerate(dict.fromkeys(ids))}
    for element in root.iter():
        element.attrib = {key: _renamed(key, value, names) for key, value in element.attrib.items() if _is_safe(key)}
    root.set("role", "img")
    root.set("aria-label", plain(label))
    root.set("preserveAspectRatio", "xMinYMin meet")
    return ET.tostring(root, encoding="unicode")


def titled(svg: str, label: str) -> str:
    """Return an SVG file that says in words what it shows."""
    return svg.replace(">", f"><title>{escape(plain(label))}</title>", 1)


def _keep_shapes(parent: ET.Element) -> None:
    for child in list(parent):
        if not isinstance(child.tag, str) or child.tag.removeprefix(f"{{{SVG}}}") not in SHAPES:
            parent.remove(child)
        else:
            _keep_shapes(child)


def _is_safe(attribute: str) -> bool:
    """Drop events and links, and the words that vega writes for screen readers: the whole has one label."""
    bare = attribute.rsplit("}", 1)[-1].lower()
    return not bare.startswith(("on", "aria")) and bare not in {"href", "role", "style", "tabindex", "font-family"}


def _renamed(attribute: str, value: str, names: Mapping[str, str]) -> str:
    """Number ids anew: vega counts them over all drawings of a process, and a report is to be the same each time."""
    if attribute == "id":
        return names[value]
    return re.sub(r"url\(#([^)]+)\)", lambda match: f"url(#{names.get(match[1], 'none')})", value)
