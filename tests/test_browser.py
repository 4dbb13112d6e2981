"""Every page in a real browser: complete, no errors, no network, safe from hostile text."""

from __future__ import annotations

import pytest

from lingraft.advice.diagnose_command import diagnose_command
from lingraft.report import compare_runs, write_report, write_study_report
from tests.browser import browser
from tests.chat_models import write_chat_tokenizer
from tests.conftest import HINDI
from tests.test_report import make_run
from tests.test_report_study import make_study
from tests.test_serving import make_chat_run, make_served_run, serving, start

ATTACK = (
    "</title></style></script><script>window.stolen=1</script><img src=x onerror='window.stolen=1'>"
)
MARKS = "مرحبا نص عربي தமிழ் உரை हिन्दी"
KINDS = ("run", "study", "comparison", "diagnosis")
CHARTS = {"run": 2, "study": 13, "comparison": 0, "diagnosis": 1}

SEEN = """(() => {
const boxes = [...document.querySelectorAll('svg, img')].map(one => one.getBoundingClientRect());
const outside = [...document.querySelectorAll('figure svg')].flatMap(svg => {
  const whole = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(text => {
    const box = text.getBoundingClientRect();
    return box.width && (box.left < whole.left - 1 || box.right > whole.right + 1
                         || box.top < whole.top - 1 || box.bottom > whole.bottom + 1);
  }).map(text => text.textContent);
});
return {figures: document.querySelectorAll('figure').length,
        drawn: boxes.map(box => [box.width, box.height]), outside,
        marks: [...document.querySelectorAll('figure svg')]
          .map(svg => svg.querySelectorAll('path, rect, line, polyline, polygon').length),
        wide: document.documentElement.scrollWidth, inner: innerWidth, stolen: typeof window.stolen,
        scripts: [...document.scripts].filter(script => !script.nonce).length};
})()"""

# Texts with less than 11 pixels, and with less contrast to the background than WCAG's AA asks for.
READABLE = """(() => {
const channels = colour => colour.match(/[\\d.]+/g).map(Number);
const light = colour => channels(colour).slice(0, 3).map(value => value / 255)
  .map(value => value <= .04045 ? value / 12.92 : ((value + .055) / 1.055) ** 2.4)
  .reduce((sum, value, place) => sum + value * [.2126, .7152, .0722][place], 0);
const behind = one => {
  const colour = getComputedStyle(one).backgroundColor;
  return (channels(colour)[3] ?? 1) === 1 ? colour
    : one.parentElement ? behind(one.parentElement) : 'rgb(255, 255, 255)';
};
const [small, faint] = [new Set(), new Set()];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const one = walk.currentNode.parentElement;
  if (!walk.currentNode.data.trim() || !one.checkVisibility()) continue;
  if (one.closest('script, .skip')) continue;
  const style = getComputedStyle(one), svg = one.closest('svg');
  const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
  const size = parseFloat(style.fontSize) * scale;
  if (size < 11) small.add(`${size} ${walk.currentNode.data}`);
  const [dark, bright] = [svg ? style.fill : style.color, behind(one)].map(light)
    .sort((a, b) => a - b);
  const contrast = (bright + .05) / (dark + .05);
  if (contrast < (size >= 24 ? 3 : 4.5) && !one.disabled)
    faint.add(`${contrast.toFixed(2)} ${walk.currentNode.data}`);
}
const cues = [...document.querySelectorAll('.scroll')]
  .map(box => getComputedStyle(box).backgroundAttachment);
return {small: [...small], faint: [...faint], cues: [...new Set(cues)]};
})()"""

WRITTEN = """new Promise(done => {
document.getElementById('go').click();
const look = setInterval(() => {
  if (!document.getElementById('stop').disabled) return;
  clearInterval(look);
  done(['source', 'adapted'].map(side => ({
    tokens: document.querySelectorAll(`#${side} .of-written li`).length,
    added: document.querySelectorAll(`#${side} .of-prompt .new`).length,
    speed: document.querySelector(`#${side} .prefill`).textContent,
    prompt: document.querySelector(`#${side} .prompt`).textContent}))
    .concat(['state', 'trouble'].map(id => document.getElementById(id).textContent)));
}, 20); })"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages on disk, most of them with an attack and four scripts in every field."""
    folder = tmp_path_factory.mktemp("pages")
    first, second = (
        make_run(folder / name, word=f"{ATTACK} {MARKS} {name}") for name in ("a", "b")
    )
    study = make_study(folder / "study", word=f"{ATTACK} {MARKS}", sizes=(0, 100, 1000))
    write_chat_tokenizer(folder / "tokenizer")
    text = folder / "hi.txt"
    lines = [f"{HINDI[i % 4]} {i} {HINDI[(i + 1) % 4]}" for i in range(200)]
    text.write_text("\n\n".join(lines), encoding="utf-8")
    diagnosis = folder / "diagnosis.html"
    diagnose_command(
        [str(folder / "tokenizer")], text=[str(text)], html=diagnosis, sample_bytes=30_000
    )
    return {
        "diagnosis": diagnosis,
        "run": write_report(first),
        "study": write_study_report(study),
        "comparison": compare_runs([first, second], folder / "both.html"),
    }


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_complete_and_without_errors(tab, pages, kind, width):
    """Every chart is drawn with its text inside; nothing fails, is fetched, or runs as a script."""
    tab.open(pages[kind].as_uri(), width, dark=width == 390)
    seen = tab.evaluate(SEEN)
    assert tab.complaints == []
    assert [address for address in tab.requests if not address.startswith("data:")] == [
        pages[kind].as_uri()
    ]
    assert seen["figures"] == CHARTS[kind]
    assert all(across > 100 and down > 60 for across, down in seen["drawn"])
    assert all(number >= 8 for number in seen["marks"])
    assert seen["outside"] == []
    assert seen["wide"] <= seen["inner"]
    assert (seen["stolen"], seen["scripts"]) == ("undefined", 0)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_readable_on_a_phone(tab, pages, kind, dark):
    """No text is under 11 pixels or faint; a table that scrolls has shadows that stay in place."""
    tab.open(pages[kind].as_uri(), 390, dark=dark)
    tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    seen = tab.evaluate(READABLE)
    assert (seen["small"], seen["faint"]) == ([], [])
    assert seen["cues"] == ["local, local, scroll, scroll"]


def test_a_chart_saved_as_a_file_opens(tab, pages):
    """The SVG file of a chart opens in a browser."""
    for chart in sorted(pages["run"].parent.glob("charts/*.svg")):
        tab.open(chart.as_uri())
        assert tab.complaints == []
        assert tab.evaluate("document.documentElement.getBoundingClientRect().width > 100")


def test_a_served_run_generates_in_the_browser(tab, tmp_path):
    """Generate fills both sides with tokens and speeds; requests go to this server only."""
    server = start(make_served_run(tmp_path, word=ATTACK))
    try:
        for width in (390, 1280):
            tab.open(server.address, width)
            source, adapted, state, trouble = tab.evaluate(WRITTEN)
            assert (tab.complaints, trouble) == ([], "")
            assert all(
                address.startswith((f"http://{server.hosts[0]}/", "data:"))
                for address in tab.requests
            )
            assert state.startswith("Done. The prompt has ")
            assert source["tokens"] > 0
            assert adapted["tokens"] > 0
            assert (source["added"], adapted["added"] > 0) == (0, True)
            assert "tokens/s" in source["speed"]
            assert ATTACK in source["prompt"]
            seen = tab.evaluate(SEEN)
            assert seen["wide"] <= seen["inner"]
            assert (seen["stolen"], seen["scripts"]) == ("undefined", 0)
    finally:
        server.shutdown()
        server.server_close()


def test_a_chat_goes_on_in_the_browser(tab, tmp_path):
    """Each side keeps its own conversation; the switch leads to plain text without the template."""
    with serving(make_chat_run(tmp_path)) as server:
        tab.open(server.address, 390)
        # The context of these models is 128 tokens.
        tab.evaluate("document.getElementById('bytes').value = 3")
        for message, turns in (("red?", 2), ("two?", 4)):
            tab.evaluate(f"document.getElementById('prompt').value = '{message}'")
            source, adapted, state, trouble = tab.evaluate(WRITTEN)
            assert (tab.complaints, trouble) == ([], "")
            assert state.startswith("Done. The prompt has ")
            assert source["tokens"] == adapted["tokens"] > 0
            shown = tab.evaluate("document.querySelectorAll('#adapted .turn').length")
            assert shown == turns - 1  # the answer itself is below the turns
        tab.evaluate("document.getElementById('system').value = '<b>' + 'x'.repeat(900)")
        tab.evaluate("document.getElementById('prompt').value = 'more'")
        assert "start a new conversation" in tab.evaluate(WRITTEN)[-1]
        tab.evaluate("document.querySelector('[name=mode][value=text]').click()")
        tab.evaluate("document.getElementById('prompt').value = 'red'")
        source, _, _, trouble = tab.evaluate(WRITTEN)
        assert (source["prompt"], trouble) == ("red", "")
        assert tab.evaluate("document.querySelector('#source .of-prompt').textContent") == "red"
        seen = tab.evaluate(SEEN)
        assert seen["wide"] <= seen["inner"]
