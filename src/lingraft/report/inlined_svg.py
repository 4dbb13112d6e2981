"""An SVG inside a page: parsed and filtered, so that only shapes and text remain.

Its ids contain the chart's name, so that two charts on a page have different ids.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree as ET

from lingraft.display_text import plain

SVG = "http://www.w3.org/2000/svg"
SHAPES = frozenset(
    {
        "svg",
        "g",
        "path",
        "rect",
        "line",
        "circle",
        "text",
        "tspan",
        "defs",
        "clipPath",
        "linearGradient",
        "stop",
    }
)


def inlined(svg: str, name: str, label: str) -> str:
    """Return an SVG for use inside a page: only shapes and text, unique ids, and a label."""
    ET.register_namespace("", SVG)
    root = ET.fromstring(svg)  # noqa: S314 - vl-convert has just written it
    _keep_shapes(root)
    # Vega numbers ids over all charts of a process. New numbers make a report the same each time.
    names: dict[str, str] = {}
    for element in root.iter():
        old = element.get("id")
        if old:
            names.setdefault(old, f"{name}-{len(names)}")
    for element in root.iter():
        kept = {}
        for key, value in element.attrib.items():
            if _is_safe(key):
                kept[key] = _rename_ids(key, value, names)
        element.attrib = kept
    root.set("role", "img")
    root.set("aria-label", plain(label))
    root.set("preserveAspectRatio", "xMinYMin meet")
    return ET.tostring(root, encoding="unicode")


def _keep_shapes(parent: ET.Element) -> None:
    for child in list(parent):
        if not isinstance(child.tag, str) or child.tag.removeprefix(f"{{{SVG}}}") not in SHAPES:
            parent.remove(child)
        else:
            _keep_shapes(child)


def _is_safe(attribute: str) -> bool:
    """Return whether to keep an attribute: no events, no links.

    Vega's own text for screen readers is dropped, too, because the whole chart has one label.
    """
    bare = attribute.rsplit("}", 1)[-1].lower()
    return not bare.startswith(("on", "aria")) and bare not in {
        "href",
        "role",
        "style",
        "tabindex",
        "font-family",
    }


def _rename_ids(attribute: str, value: str, names: Mapping[str, str]) -> str:
    if attribute == "id":
        return names[value]
    return re.sub(r"url\(#([^)]+)\)", lambda match: f"url(#{names.get(match[1], 'none')})", value)
