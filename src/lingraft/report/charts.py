"""The charts of a report: declared with altair, drawn by vl-convert without a browser and without the network.

Each has a label that describes it, for those who do not see it. Colours are distinct on white and on black; what they
mean is also shown by position or by the kind of line. The SVG in the page is parsed and written again: only shapes and
text are left, and its ids carry the chart's name so that two charts on a page do not share one.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from lingraft.formatting import joined, language_name, number, percent, plain, size
from lingraft.measurement import MetricChange, find_change
from lingraft.progress import say
from lingraft.report.run_files import RunFiles

GREY, BLUE = "#7b8494", "#2f7fd6"
COLOURS = [BLUE, "#c9671b", "#8a63d2", "#2a9461", "#c7518f", "#8d7d1f", GREY]
DASHES = {"held-out": [1, 0], "training": [3, 3]}
WIDTH = 330
POINTS = 120
"""Points of a training curve: more are not seen apart at this width."""
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
CHART_PACKAGES = ("altair", "vl_convert")


@dataclass(frozen=True)
class Chart:
    """A declared chart with its name (that of its files), its caption, and its content in words."""

    name: str
    title: str
    caption: str
    label: str
    declared: Any


def charts(run: RunFiles, table: Sequence[MetricChange]) -> list[Chart]:
    """Return every chart that the run has numbers for."""
    return [
        chart
        for chart in (fertility_chart(run, table), vocabulary_chart(run), training_chart(run))
        if chart
    ]


def fertility_chart(run: RunFiles, table: Sequence[MetricChange]) -> Chart | None:
    """Return bars of tokens per word, source and adapted, for each language."""
    import altair as alt

    rows: list[dict[str, Any]] = []
    told = []
    for language in run.languages:
        one = find_change(table, "tokens per word", language)
        if (
            one is None
            or "source" not in one.rows
            or one.last is None
            or not math.isfinite(one.last.value)
        ):
            continue
        told.append(
            f"{language_name(language)} {number(one.rows['source'].value)} before, "
            f"{number(one.last.value)} after"
        )
        rows += [
            {
                "language": language_name(language),
                "model": row.subject,
                "value": row.value,
                "low": row.low,
                "high": row.high,
                "shown": number(row.value),
            }
            for row in (one.rows["source"], one.last)
        ]
    if not rows:
        return None
    subjects = list(dict.fromkeys(row["model"] for row in rows))
    widest = max(max(row["value"], row["high"] or 0) for row in rows)
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y(
            "language:N", title=None, sort=None, axis=alt.Axis(labelFontWeight="bold", ticks=False)
        ),
        yOffset=alt.YOffset("model:N", sort=subjects),
    )
    across = alt.X(
        "value:Q",
        title="tokens per word",
        scale=alt.Scale(domain=[0, widest * 1.18], nice=False),
        axis=alt.Axis(tickCount=5),
    )
    colour = alt.Color(
        "model:N",
        title=None,
        sort=subjects,
        scale=alt.Scale(domain=subjects, range=[GREY, BLUE][: len(subjects)]),
        legend=alt.Legend(orient="top"),
    )
    bars = base.mark_bar(cornerRadiusEnd=2).encode(x=across, color=colour)
    marks = [
        bars,
        base.mark_text(align="left", dx=4)
        .encode(x=alt.X("edge:Q"), text="shown:N")
        .transform_calculate(edge="max(datum.value, datum.high || 0)"),
    ]
    if any(row["high"] is not None for row in rows):
        marks.insert(
            1,
            base.mark_rule(strokeWidth=1.5)
            .encode(x="low:Q", x2="high:Q")
            .transform_filter("isValid(datum.high)"),
        )
    height = 58 * len({row["language"] for row in rows})
    return Chart(
        "fertility",
        "Tokens per word",
        "Held-out text; shorter is better. The thin line is the interval, the number the value.",
        "Bar chart of tokens per word: " + "; ".join(told),
        styled(alt.layer(*marks), height),
    )


def vocabulary_chart(run: RunFiles) -> Chart | None:
    """Return the tokens of the training text against the number of added tokens."""
    import altair as alt

    if run.curve is None or len(run.curve["added"]) < 2:
        return None
    added, tokens = run.curve["added"], run.curve["tokens"]
    taken = len(run.splice.new) if run.splice else added[-1]
    rows = [
        {"added": size, "share": count / tokens[0]}
        for size, count in zip(added, tokens, strict=True)
    ]
    line = (
        alt.Chart(alt.Data(values=rows))
        .mark_line(strokeWidth=2, color=BLUE)
        .encode(
            x=alt.X("added:Q", title="tokens added", axis=alt.Axis(tickCount=6)),
            y=alt.Y(
                "share:Q",
                title="tokens of the text, before = 100%",
                scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(format="%", tickCount=5),
            ),
        )
    )
    rule = (
        alt.Chart(alt.Data(values=[{"added": taken}]))
        .mark_rule(color=GREY, strokeDash=[3, 3])
        .encode(x="added:Q")
    )
    told = (
        f"{number(added[-1])} tokens bring the text to {percent(rows[-1]['share'])} of its tokens"
    )
    return Chart(
        "vocabulary",
        "Tokens against vocabulary size",
        "The text that the tokens were learned from; the dashed line marks how many were taken.",
        f"Line chart: {told}; {number(taken)} were taken.",
        styled(alt.layer(line, rule), 180),
    )


def training_chart(run: RunFiles) -> Chart | None:
    """Return bits per byte against the bytes that were seen, on training and held-out text, for each language."""
    import altair as alt

    rows = [
        row
        for row in (*_training_points(run), *_heldout_points(run))
        if math.isfinite(row["value"])
    ]
    if not rows:
        return None
    languages = list(dict.fromkeys(row["language"] for row in rows))
    unit, power = ("MB", 1e6) if max(row["bytes"] for row in rows) >= 1e6 else ("kB", 1e3)
    for row in rows:
        row["seen"] = row["bytes"] / power
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X(
            "seen:Q",
            title=f"text seen ({unit})",
            axis=alt.Axis(tickCount=6),
            scale=alt.Scale(zero=True),
        ),
        y=alt.Y("value:Q", title="bits per byte", scale=alt.Scale(zero=False)),
        color=alt.Color(
            "language:N",
            title=None,
            sort=languages,
            legend=alt.Legend(orient="top"),
            scale=alt.Scale(domain=languages, range=COLOURS[: len(languages)]),
        ),
    )
    kinds = [kind for kind in ("held-out", "training") if any(row["kind"] == kind for row in rows)]
    dash = alt.StrokeDash(
        "kind:N",
        title=None,
        sort=kinds,
        legend=alt.Legend(orient="top", symbolType="stroke"),
        scale=alt.Scale(domain=kinds, range=[DASHES[kind] for kind in kinds]),
    )
    lines = base.mark_line(strokeWidth=2).encode(
        strokeDash=dash,
        opacity=alt.condition("datum.kind == 'training'", alt.value(0.75), alt.value(1)),
    )
    dots = base.mark_circle(size=45, opacity=1).transform_filter("datum.kind == 'held-out'")
    return Chart(
        "training",
        "The course of the training",
        "Lower is better. Solid with dots: held-out text; dashed: "
        "the text that was trained on, averaged over neighbouring steps.",
        "Line chart of bits per byte against bytes seen. " + _course(rows),
        styled(alt.layer(lines, dots), 210),
    )


def _training_points(run: RunFiles) -> Iterator[dict[str, Any]]:
    target = joined([language_name(tag) for tag in run.targets])
    fields = [
        ("target_bits_per_byte", target),
        ("replay_bits_per_byte", language_name(run.base or "replay")),
    ]
    steps = [row for row in run.training or () if "heldout" not in row and "bytes" in row]
    if steps and not any("target_bits_per_byte" in row for row in steps):
        fields = [("bits_per_byte", target)]
    for field, language in fields:
        chosen = [row for row in steps if row.get(field) is not None]
        stride = -(-len(chosen) // POINTS) or 1
        for begin in range(0, len(chosen), stride):
            part = chosen[begin : begin + stride]
            yield {
                "language": language,
                "kind": "training",
                "bytes": part[-1]["bytes"],
                "value": sum(row[field] for row in part) / len(part),
            }


def _heldout_points(run: RunFiles) -> Iterator[dict[str, Any]]:
    for row in run.training or ():
        found: Mapping[str, float] = row.get("heldout") or {}
        for language, value in found.items():
            yield {
                "language": language_name(language),
                "kind": "held-out",
                "bytes": row["bytes"],
                "value": value,
            }


def _course(rows: Sequence[Mapping[str, Any]]) -> str:
    """Say where each held-out curve begins and ends."""
    told = []
    for language in dict.fromkeys(row["language"] for row in rows if row["kind"] == "held-out"):
        curve = [row for row in rows if (row["kind"], row["language"]) == ("held-out", language)]
        told.append(
            f"{language} from {number(curve[0]['value'])} to {number(curve[-1]['value'])} after "
            f"{size(curve[-1]['bytes'])}"
        )
    return f"Held-out: {joined(told)}." if told else "No held-out text was measured on the way."


def styled(layered: Any, height: int) -> Any:
    """Return a chart at its size, in the look that all charts share."""
    return (
        layered.properties(width=WIDTH, height=height)
        .configure(font="Arial, Liberation Sans, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            grid=True,
            domain=False,
            gridColor="#dddddd",
            tickColor="#dddddd",
            labelLimit=140,
        )
        .configure_axisY(labelPadding=6)
        .configure_text(fontSize=12)
        .configure_legend(labelFontSize=12, symbolStrokeWidth=2, labelLimit=180)
    )


def chart_packages_missing(page: Path) -> bool:
    """Say whether a package that draws is missing; if so, print which, and how the charts get into `page` later.

    A compute node often has neither package. A finished run must not fail there for want of a picture.
    """
    missing = [name for name in CHART_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        say(
            f"{page.name}: written without charts ({', '.join(missing)} not installed); to draw them, copy the "
            "folder to a machine that has altair and vl-convert-python and run `lingraft report` on it"
        )
    return bool(missing)


def draw_svg(chart: Any, *, background: str | None = None) -> str:
    """Return a chart as SVG; without a background it takes the colour of what is behind it."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(specification(chart, background), vl_version=_version()))


def draw_png(chart: Any) -> bytes:
    """Return a chart as PNG on white, twice as fine as it is wide."""
    import vl_convert

    return bytes(
        vl_convert.vegalite_to_png(specification(chart, "white"), vl_version=_version(), scale=2)
    )


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
        element.attrib = {
            key: _renamed(key, value, names)
            for key, value in element.attrib.items()
            if _is_safe(key)
        }
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
    return not bare.startswith(("on", "aria")) and bare not in {
        "href",
        "role",
        "style",
        "tabindex",
        "font-family",
    }


def _renamed(attribute: str, value: str, names: Mapping[str, str]) -> str:
    """Number ids anew: vega counts them over all drawings of a process, and a report is to be the same each time."""
    if attribute == "id":
        return names[value]
    return re.sub(r"url\(#([^)]+)\)", lambda match: f"url(#{names.get(match[1], 'none')})", value)
