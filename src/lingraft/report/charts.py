"""The style that all charts share, and drawing them as SVG and PNG with vl-convert.

Each chart has a label that describes it for screen readers. Colours are distinct on white and on
black, and position or the kind of line shows the same as the colour.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from lingraft.display_text import plain
from lingraft.progress import say
from lingraft.report.chart_labels import label_axis

# Readable on white and on black.
GREY, BLUE = "#7b8494", "#2f7fd6"
COLOURS = [BLUE, "#c9671b", "#8a63d2", "#2a9461", "#c7518f", "#8d7d1f", GREY]
# The width of a whole chart with its labels, in its own pixels. A page on a phone shows it at about
# 0.88 of that, where text of `FONT_SIZE` still has more than 11 pixels.
WIDTH, FONT_SIZE = 400, 13
PADDING = 30
MARGINS = {"left": 5, "top": 5, "bottom": 5, "right": 18}
"""Around a chart; the label of the last grid line is centred below it, and needs room there."""
CHART_PACKAGES = ("altair", "vl_convert")


@dataclass(frozen=True)
class Chart:
    """A chart: its name, which is also that of its files, its text, and its declaration.

    `label` describes it for screen readers. `declared` is an altair chart.
    """

    name: str
    title: str
    caption: str
    label: str
    declared: Any

    @cached_property
    def svg(self) -> str:
        """The chart as SVG without a background."""
        import vl_convert

        return str(vl_convert.vegalite_to_svg(specification(self.declared), vl_version=_version()))

    def on_white(self) -> str:
        """Return the chart as an SVG file on white, with its label as title."""
        title = f"<title>{escape(plain(self.label))}</title>"
        # Numbers next to the dots stay readable where they are on a line.
        style = ".mark-text.role-mark text{paint-order:stroke;stroke:white;stroke-width:3px}"
        white = '<rect width="100%" height="100%" fill="white"/>'
        return self.svg.replace(">", f">{title}<style>{style}</style>{white}", 1)

    def png(self) -> bytes:
        """Return the chart as PNG on white, at twice its resolution."""
        import vl_convert

        # From the SVG: drawing the declaration again takes three times as long, for equal pixels.
        return bytes(vl_convert.svg_to_png(self.on_white(), scale=2))


def palette(count: int) -> list[str]:
    """Return `count` colours; they repeat if there are more than `COLOURS`."""
    return list(islice(cycle(COLOURS), count))


def coloured_by(field: str, values: Sequence[str], colours: Sequence[str] = ()) -> Any:
    """Return a colour for each value of a field, with a legend above the chart.

    Without `colours`, they are those of `palette`.
    """
    import altair as alt

    return alt.Color(
        f"{field}:N",
        title=None,
        sort=list(values),
        legend=alt.Legend(orient="top", columns=_legend_columns(values)),
        scale=alt.Scale(
            domain=list(values), range=list(colours or palette(len(values)))[: len(values)]
        ),
    )


def _legend_columns(values: Sequence[str]) -> int:
    """Return the columns of a legend; 0 puts everything in one line, if there is room.

    >>> _legend_columns(["Hindi", "English"]), _legend_columns(["a label of 22 letters."] * 4)
    (0, 2)
    """
    # Next to the vertical axis; a symbol and the space around it, and the mean letter.
    room, symbol, letter = WIDTH - 60, 22, 0.48 * FONT_SIZE
    widths = [symbol + letter * len(value) for value in values]
    return 0 if sum(widths) <= room else max(1, int(room // max(widths)))


def dashed_by(field: str, dashes: Mapping[str, Sequence[int]]) -> Any:
    """Return the dashes of a line for each value of a field, with a legend below the chart.

    Next to the legend of colours, above the chart, it would be cut off with three languages.
    """
    import altair as alt

    values = list(dashes)
    return alt.StrokeDash(
        f"{field}:N",
        title=None,
        sort=values,
        legend=alt.Legend(orient="bottom", symbolType="stroke"),
        scale=alt.Scale(domain=values, range=[list(dashes[value]) for value in values]),
    )


def open_scale(values: Iterable[float | None], **settings: Any) -> Any:
    """Return the scale of an axis that need not begin at 0, for these values.

    Vega labels an axis of one value without decimals: 1.83 would be at 2. It gets room instead.
    """
    import altair as alt

    known = {value for value in values if value is not None and math.isfinite(value)}
    if len(known) == 1:
        (only,) = known
        room = abs(only) / 10 or 1.0
        settings["domain"] = [only - room, only + room]
    return alt.Scale(zero=False, **settings)


def interval_dots(
    points: Sequence[Mapping[str, Any]],
    title: str,
    *,
    labels: Sequence[str],
    padding: int | None = None,
    line: float | None = None,
    kinds: Sequence[str] = (),
    logarithmic: bool = False,
    column: Mapping[str, str] | None = None,
    column_title: str = "",
) -> Any:
    """Declare a dot for each point on the line of its label, with its interval and its number.

    A point has `label`, `value`, `low`, `high` and `shown`, and its `kind` if there are kinds, the
    last of which is coloured. `line` is where a vertical line shows the value compared with. Ratios
    belong on a `logarithmic` axis, on which twice and half are equally far from the line. `column`
    has a short text for each label, which stands to the right of the dots.
    """
    import altair as alt

    base = alt.Chart(alt.Data(values=list(points))).encode(
        y=alt.Y("label:N", title=None, sort=list(labels), axis=label_axis())
    )
    room = {} if padding is None else {"padding": padding}
    ends = [point.get(name) for point in points for name in ("value", "low", "high")]
    scale = open_scale([*ends, line], **room)
    if logarithmic:
        scale = alt.Scale(type="log", nice=False, **room)
    axis = alt.Axis(tickCount=5, labelOverlap=True, labelSeparation=6)
    if logarithmic and line:
        axis = alt.Axis(values=[line * 2.0**power for power in range(-6, 7)])
    across = alt.X("value:Q", title=title, scale=scale, axis=axis)
    dots = base.mark_circle(size=90, opacity=1).encode(
        x=across,
        color=coloured_by("kind", kinds, [GREY, BLUE]) if kinds else alt.value(BLUE),
    )
    layers = [dots, base.mark_text(dy=-11).encode(x=across, text="shown:N")]
    if any(point.get("high") is not None for point in points):
        bars = base.mark_rule(strokeWidth=2, color=GREY).encode(x="low:Q", x2="high:Q")
        layers.insert(0, bars.transform_filter("isValid(datum.high)"))
    if line is not None:
        rule = alt.Chart(alt.Data(values=[{"x": line}])).mark_rule(color=GREY, strokeDash=[3, 3])
        layers.insert(0, rule.encode(x="x:Q"))
    declared = alt.layer(*layers)
    if column:
        # Only the axis of this layer is seen: text outside of the plot would be cut off.
        right = alt.Axis(
            orient="right", ticks=False, grid=False, labelExpr=f"{json.dumps(column)}[datum.label]"
        )
        place = alt.Y("label:N", title=column_title, sort=list(labels), axis=right)
        texts = base.mark_point(opacity=0).encode(x=across, y=place)
        declared = alt.layer(declared, texts).resolve_axis(y="independent")
    return styled(declared, 48 * len(labels) + 20)


def difference_dots(
    points: Sequence[Mapping[str, Any]], title: str, labels: Iterable[str], **more: Any
) -> Any:
    """Declare `interval_dots` of differences, with a line at 0 and `more` arguments."""
    # The padding has room for the numbers of the first and the last dot.
    return interval_dots(points, title, labels=list(labels), padding=PADDING, line=0.0, **more)


def text_unit(longest: float) -> tuple[str, float]:
    """Return the unit of an axis of text up to `longest` bytes: its name, and its bytes.

    >>> text_unit(3_000_000), text_unit(20_000)
    (('MB', 1000000.0), ('kB', 1000.0))
    """
    return ("MB", 1e6) if longest >= 1e6 else ("kB", 1e3)


def styled(layers: Any, height: int) -> Any:
    """Return a chart with its size and the style that all charts share.

    All charts have the same width with their labels, so that their text has the same size.
    """
    import altair as alt

    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    return (
        layers.properties(width=WIDTH, height=height, autosize=fit, padding=MARGINS)
        .configure(font="Arial, Liberation Sans, sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            labelFontSize=FONT_SIZE,
            titleFontSize=FONT_SIZE,
            titleFontWeight="normal",
            grid=True,
            domain=False,
            gridColor="#dddddd",
            tickColor="#dddddd",
            labelLimit=140,
            # Labels stay under their grid lines, also at the ends.
            labelFlush=False,
        )
        .configure_axisY(labelPadding=6)
        .configure_text(fontSize=FONT_SIZE)
        .configure_legend(
            labelFontSize=FONT_SIZE, symbolStrokeWidth=2, symbolOpacity=1, labelLimit=WIDTH - 110
        )
    )


def chart_packages_missing(page: Path) -> bool:
    """Return whether a package that draws charts is missing; if so, print how to add charts later.

    Compute nodes often have neither package, and a finished run must not fail because of charts.
    """
    missing = [name for name in CHART_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        say(
            f"{page.name}: written without charts ({', '.join(missing)} not installed); to draw "
            "them, copy the folder to a machine that has altair and vl-convert-python and run "
            "`lingraft report` on it"
        )
    return bool(missing)


def _version() -> str:
    """Return altair's Vega-Lite version if vl-convert has it, otherwise the newest that it has."""
    import altair as alt
    import vl_convert

    of_altair = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
    known = vl_convert.get_vegalite_versions()
    return of_altair if of_altair in known else str(known[-1])


def specification(chart: Any) -> dict[str, Any]:
    """Return the declared chart as Vega-Lite, its text without control characters.

    A control character would make the SVG invalid XML. Checking the declaration against the schema
    of Vega-Lite takes longer than drawing the chart; tests do it.
    """
    return {**_plain(chart.to_dict(validate=False)), "background": "transparent"}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return plain(value) if isinstance(value, str) else value
