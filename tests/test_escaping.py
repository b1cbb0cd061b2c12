"""What reaches a page, a chart or a terminal: texts that mean harm, in all that nbllm shows.

`HARMFUL` goes through everything that writes HTML or SVG and everything that has a repr of its
own. The parsed page must have the elements and attributes that it has with a harmless text, and
the text itself must be there to be read. Modules and classes that are in no case here make
`test_everything_that_is_shown_is_tested` fail.
"""

from __future__ import annotations

import ast
import html
import io
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nbllm
from nbllm import errors
from nbllm._warnings import warn_user
from nbllm.escaping import chart_text, escape, say, visible

HARMFUL = [
    "<img src=x onerror=alert(1)>",
    "</script><script>a()</script>",
    '"><svg/onload=alert(1)>',
    "' onmouseover='alert(1)",
    '" autofocus onfocus="alert(1)',
    "javascript:alert(1)",
    '<a href="javascript:a()">b</a>',
    "<b>&lt;i&gt;</b>&amp;&#x3c;",
    "</textarea></title><b>",
    "<style>*{}</style>",
    "<!--x",
    "]]><b>",
    "a\x00b",
    "half \ud83d a pair",
    "\u202egnp.exe",
    "\u2066\u202bleft open",
    "one\u2028two\u2029three",
    "\x1b[31mred\x1b[0m",
    "\x1b]8;;a:b\x07link\x1b]8;;\x07",
    "\x1b]52;c;ZXZpbA==\x07",
    "over\rwrit\x08\x08ten\x07",
    "\x9b31mC\x851",
    "{0} %s ${x} {{y}}",
    "$\\href{javascript:a()}{x}$",
]
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")

any_text = st.lists(
    st.one_of(
        st.sampled_from(HARMFUL),
        st.text(st.characters(codec=None), max_size=4),
        st.sampled_from([chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]),
        st.sampled_from("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\r\n<>&'\"$"),
    ),
    max_size=12,
).map("".join)


# The functions


@settings(deadline=None)
@given(any_text)
def test_no_terminal_obeys_what_is_visible(text: str) -> None:
    shown = visible(text)
    assert not OBEYED.search(shown)
    shown.encode()
    assert visible(shown) == shown
    assert len(shown) == len(text) - text.count("\r\n")


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"])))
def test_other_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text
    assert visible("a\tb\nc\r\nd") == "a\tb\nc\nd"


@settings(deadline=None)
@given(any_text)
def test_an_escaped_text_is_text_wherever_it_stands(text: str) -> None:
    shown = Page(f"<p title=\"{escape(text)}\" lang='{escape(text)}'>{escape(text)}</p>")
    [(tag, attributes)] = shown.elements
    assert (tag, [*attributes]) == ("p", ["title", "lang"])
    assert shown.text == attributes["title"] == attributes["lang"]
    assert shown.text.startswith(visible(text))
    assert set(shown.text[len(visible(text)) :]) <= {"\u202c", "\u2069"}
    assert open_directions(shown.text) == []


@settings(deadline=None)
@given(any_text)
def test_plotly_finds_no_tag_and_no_formula(text: str) -> None:
    written = chart_text(text)
    assert not re.search("[<>$]", written)
    # plotly knows five names of entities, and numbers.
    assert set(re.findall(r"&(#?\w+);", written)) <= {"amp", "lt", "gt", "#36"}
    assert html.unescape(written).startswith(visible(text))


@pytest.mark.parametrize(
    "unit",
    ["\x1b", "\r", "<", "\ud83d", "\u202e", "\u2067", "\u202a\u2069", "\u2066\u202c", "\u2069"],
)
def test_many_of_them_take_no_time(unit: str) -> None:
    half = 100_000 // len(unit)
    for text in (unit * 2 * half, "\u202a" * half + unit * half, "\u2066" * half + unit * half):
        started = time.process_time()
        escape(text)
        chart_text(text)
        assert time.process_time() - started < 1  # in proportion to the length: a tenth of it


def open_directions(text: str) -> list[str]:
    """Beginnings of a direction of writing that have no end, by the rules of Unicode's UAX 9."""
    begun: list[str] = []
    for letter in text:
        if letter in "\u202a\u202b\u202d\u202e\u2066\u2067\u2068":
            begun.append(letter)
        elif letter == "\u202c" and begun and begun[-1] < "\u2066":
            begun.pop()
        elif letter == "\u2069" and any(one >= "\u2066" for one in begun):
            while begun.pop() < "\u2066":
                pass
    return begun


# What is shown


class Page(HTMLParser):
    """The elements of HTML or SVG with their attributes, and its text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data}")

    @property
    def structure(self) -> Counter[tuple[str, ...]]:
        return Counter((tag, *sorted(attributes)) for tag, attributes in self.elements)

    def times(self, text: str) -> int:
        """How often a text can be read, on the page or by a screen reader."""
        read = ("title", "alt", "aria-label")
        said = [v for _, attributes in self.elements for k, v in attributes.items() if k in read]
        return sum(blanks(part).count(blanks(text)) for part in (self.text, *said))


def blanks(text: str) -> str:
    return re.sub(r"[ \t\n\r\f]+", " ", text)


Case = Callable[["World", str], Iterator[tuple[str, Any]]]
CASES: dict[str, tuple[tuple[str, ...], Case]] = {}


def shows(*what: str) -> Callable[[Case], Case]:
    """Adds a case: what shows a text, and the modules and classes that are covered by it."""

    def add(case: Case) -> Case:
        CASES[case.__name__] = what, case
        return case

    return add


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        yield World(tmp_path_factory.mktemp("shown"), patch)


class World:
    """What several cases show, made once with harmless texts."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        from nbllm.attention.recording.capture import record
        from tests.conftest import tiny_model

        self.folder, self.patch = folder, patch
        patch.setenv("NBLLM_LEDGER", str(folder / "ledger.sqlite3"))
        self.model = tiny_model("causal")
        self.classifier = tiny_model("classifier")
        self.frame = pd.DataFrame(
            {"review": ["Warm soup.", "Cold soup.", "A quiet film."], "label": [*"aba"]},
            dtype=object,
        )
        options = {"labels": ["a", "b"], "ledger": False}
        self.answered = self.frame.llm.classify("review", model=self.model, **options)
        self.answered["review_classify_error"] = [None, None, "no room"]
        self.comparison = nbllm.compare(
            self.model,
            replace(tiny_model("causal"), revision="1" * 64),
            self.frame,
            "classify",
            "review",
            truth="label",
            **options,
        )
        self.recording = record(self.model, "Warm soup.")


def whole(shown: Any) -> Iterator[tuple[str, Any]]:
    yield "html", shown._repr_html_()
    yield "plain", repr(shown)
    yield "plain", str(shown)


def report(text: str) -> Any:
    from nbllm.frame.running.report import RunReport

    model = dict.fromkeys(("name", "quantization", "dtype", "device"), text) | {"revision": "0"}
    return RunReport(text, text, text, model, rows=3, ledger=text, errors={text: 2})


@shows("display.card", "RunReport")
def a_report(world: World, text: str) -> Iterator[tuple[str, Any]]:
    yield from whole(report(text))


@shows("frame.running.preview", "Preview", "StepsPreview")
def previews(world: World, text: str) -> Iterator[tuple[str, Any]]:
    from nbllm.engine.prompt import FieldSpan, Prompt
    from nbllm.frame.running.preview import Preview, PreviewStep, StepsPreview

    asked = f"{text} {text}"
    spans = ((0, len(text)), (len(text), len(asked)))
    preview = Preview(Prompt((1, 2), asked, spans, (FieldSpan("review", 1, 2),)))
    assert preview.text == asked  # to the letter
    yield from whole(preview)
    steps = PreviewStep.of(text, preview), PreviewStep(text, text, note=text)
    yield from whole(StepsPreview(text, steps))


@shows("RunEstimate", "StepsEstimate")
def estimates_of_runs(world: World, text: str) -> Iterator[tuple[str, Any]]:
    from nbllm.frame.running.estimate import RunEstimate, StepsEstimate

    step = RunEstimate(text, *[1] * 12)
    yield from whole(step)
    yield from whole(StepsEstimate(text, {text: step}))


@shows("display.table", "frame.evaluation.render", "Evaluation")
def an_evaluation(world: World, text: str) -> Iterator[tuple[str, Any]]:
    from nbllm.frame.evaluation.labels import LabelEvaluation
    from nbllm.frame.evaluation.summary import Measure
    from nbllm.frame.evaluation.texts import TextEvaluation
    from nbllm.stats import Estimate

    frame = pd.DataFrame({"label": ["a", "b"]})
    shared = (frame, text, text, text, [text, "b"], [text, text], [0, 1], 1, text)
    measured = Measure(text, Estimate(0.5, 0.4, 0.6), 0.3, text, 0.2)
    labels = LabelEvaluation(*shared, np.array([0.6, 0.7]))
    for found in (labels, TextEvaluation(*shared, ("exact",), None)):
        vars(found)["measures"] = (measured,)  # cached, so that nothing is drawn 2,000 times
        yield from whole(found)
        yield "chart", found.plot()


@shows("frame.comparison.render", "Comparison")
def a_comparison(world: World, text: str) -> Iterator[tuple[str, Any]]:
    found = world.comparison
    rows = found.rows.rename(columns={"review": paired(text)})
    rows.attrs = found.rows.attrs
    rows[paired(text)] = pd.Series([text] * len(rows), dtype=object, index=rows.index)
    # So that a row differs, and is shown.
    rows["b"] = rows["a"].map({"a": "b", "b": "a"})
    sides = (
        replace(side, model=dict.fromkeys(side.model, text), report=report(text))
        for side in (found.a, found.b)
    )
    shown = replace(
        found,
        rows=rows,
        a=next(sides),
        b=next(sides),
        verb=text,
        columns=(paired(text),),
        truth=None,
    )
    yield from whole(shown)
    yield "chart", shown.plot()


@shows("Run")
def a_background_run(world: World, text: str) -> Iterator[tuple[str, Any]]:
    from nbllm.frame.running.background import Run
    from nbllm.frame.running.progress import Step

    run = Run(text, text, lambda monitor: monitor.steps.append(Step(report(text))))
    yield "plain", repr(run)
    run.result()
    yield "plain", str(run)


@shows("models.card", "Model")
def a_model(world: World, text: str) -> Iterator[tuple[str, Any]]:
    for model in (world.model, world.classifier):
        named = replace(model, name=text, source=text, licence=text, adapter=text, merged=False)
        yield from whole(named)
        named.unload()
        yield from whole(named)


@shows("models.estimate.result", "MemoryEstimate")
def an_estimate(world: World, text: str) -> Iterator[tuple[str, Any]]:
    from nbllm.models.estimate.requirement import Requirement
    from nbllm.models.estimate.result import MemoryEstimate

    row = Requirement(text, 10, 1, 10, 1, 1, 12)
    shown = MemoryEstimate(text, "causal", 5, text, text, 10, 5, (row,), (text,))
    yield from whole(shown)
    yield "chart", shown.plot()


@shows("Shelf", "Verified")
def a_shelf(world: World, text: str) -> Iterator[tuple[str, Any]]:
    from nbllm.models.fetch.cached_models import Verified
    from nbllm.models.shelf import Item, Shelf

    shelf = Shelf()
    places = ("in memory", "on this disk", "left over", "to fetch")
    words = dict.fromkeys(("licence", "quantization", "device", "what", "source"), text)
    folder = Path(f"/{text}")
    shelf.items = [Item(text, place, 5, **words, folder=folder) for place in places]
    yield from whole(shelf)
    for found in (Verified(text, 0), Verified(text, 2), Verified(text, 2, {text: text})):
        yield "plain", repr(found)


@shows("Status")
def a_status(world: World, text: str) -> Iterator[tuple[str, Any]]:
    from nbllm.notebook.status import Status

    yield from whole(Status([(text, text)]))


@shows("notebook.stream")
def a_stream_in_a_notebook(world: World, text: str) -> Iterator[tuple[str, Any]]:
    from nbllm.notebook.stream import Stream

    seen: list[dict[str, str]] = []

    def show(bundle: dict[str, str], raw: bool) -> None:
        seen.append(bundle)

    stream = Stream(SimpleNamespace(kernel=None))
    stream._handle = SimpleNamespace(display=show, update=show)
    stream.update(text)
    stream.end(text, text)
    for bundle in seen:
        yield "html", bundle["text/html"]
        yield "plain", bundle["text/plain"]


HISTORY = [{"step": 1.0, "loss": 0.5}, {"step": 2.0, "loss": 0.4}, {"step": 2.0, "eval_loss": 0.4}]


def training_record(text: str) -> dict[str, Any]:
    sizes = ("parameters", "layers", "heads", "hidden", "vocabulary", "context")
    of_label = {"precision": 0.5, "recall": 0.5, "f1": 0.5, "rows": 2}
    return {
        "base": {"name": text, "quantization": text, "revision": text},
        "method": "lora",
        "verb": text,
        "labels": [text],
        "options": {"labels": [text]},
        "template": "",
        "prompt": None,
        "columns": {"reads": [text]},
        "rows": {"train": 1, "said": text},
        "steps": 1,
        "seconds": 1.0,
        "interrupted": False,
        "licence": text,
        "history": HISTORY,
        "metrics": {
            "held-out loss before": 2.0,
            "held-out loss": 1.0,
            "labels": {text: of_label, "b": of_label},
        },
        "shape": dict.fromkeys(sizes, 1),
        "tokens": {"train": 1},
        "samples": [{"step": 1, "text": text}],
    }


@shows("Finetuned", "Pretrained", "train.curves")
def trained(world: World, text: str) -> Iterator[tuple[str, Any]]:
    from nbllm.train.curves import svg
    from nbllm.train.finetuned import Finetuned
    from nbllm.train.pretrained import Pretrained

    record = training_record(text)
    yield from whole(Finetuned(Path(f"/{text}"), record))
    record["metrics"] = {"perplexity, held out": 3.0, f"perplexity, {text}": 5.0, text: 1.0}
    yield from whole(Pretrained(Path(f"/{text}"), record))
    yield "html", svg(HISTORY, unit=text, references=[(text, 0.4)])


@shows("train.live")
def a_training(world: World, text: str) -> Iterator[tuple[str, Any]]:
    from nbllm.train.live import Live

    seen: list[Any] = []
    world.patch.setattr("IPython.display.display", lambda html, display_id: seen.append(html.data))
    live = Live(text, text, text, steps=3, rows=1, unit=text)
    live.notes.append(text)
    live.refer([(text, 0.4)])
    live._draw(HISTORY, 1, text)
    [drawn] = seen
    yield "html", drawn


@shows("widgets.run.summary", "widgets.run.view")
def a_run(world: World, text: str) -> Iterator[tuple[str, Any]]:
    from nbllm.frame.running.progress import RunMonitor, Step
    from nbllm.widgets.run.summary import running_html
    from nbllm.widgets.run.view import _static, state_of

    monitor = RunMonitor(text, text)
    yield "html", running_html(monitor)
    for _ in range(2):
        yield from zip(("html", "plain"), _static(monitor).values(), strict=True)
        monitor.error = text
        step = Step(report(text), error=text)
        step.labels = Counter({text: 30})
        step.failed = [(text, text)] * 4
        step.slowest = [(text, 1.25)]
        step.latest = [(text, text)]
        monitor.steps.append(step)
        yield from zip(("html", "plain"), _static(monitor).values(), strict=True)
        # As a message carries it to the browser, which sets it as text.
        yield "plain", "\n".join(strings(state_of(monitor)))


@shows("widgets.attribution_html", "widgets.explanation", "Explanation")
def an_explanation(world: World, text: str) -> Iterator[tuple[str, Any]]:
    from nbllm.frame.explanation.contrast import Contrast
    from nbllm.widgets.attribution_html import attribution_html
    from nbllm.widgets.explanation import Explanation

    class Failing(Explanation):
        @property
        def attribution(self) -> Any:
            raise errors.TextError(text)

    contrast = Contrast(text, text, 0.6, 0.4, 1, 2)
    words = pd.DataFrame({"word": [paired(text), "b"], "attribution": [0.5, -0.5]})
    words["attention"] = 0.1
    yield "html", attribution_html(contrast, words, 0.1, 20, (1, 2))
    prompt = SimpleNamespace(ids=(1, 2))
    named = replace(world.model, name=text)
    failing = Failing(named, prompt, contrast)
    yield "html", failing.words_html()
    yield "plain", repr(failing)
    yield "plain", repr(Explanation(named, prompt, None))


@shows("widgets.quotes_html")
def quotations(world: World, text: str) -> Iterator[tuple[str, Any]]:
    from nbllm.frame.explanation.quotes import Quote
    from nbllm.widgets.quotes_html import quotes_html

    half = len(text) // 2
    yield "html", quotes_html(text, [Quote(text, 0, len(text))])
    yield "html", quotes_html(text + text, [Quote(text, half, len(text)), Quote("b", 0, half)])


@shows("widgets.explorer.static_html", "widgets.explorer.explanation_panel", "Explorer")
def an_explorer(world: World, text: str) -> Iterator[tuple[str, Any]]:
    from nbllm.widgets.explorer.explanation_panel import ExplanationPanel
    from nbllm.widgets.explorer.view import Explorer

    frame = world.answered.rename(columns={"label": paired(text)})
    frame.attrs = world.answered.attrs
    for column in ("review", "review_classify_error", paired(text)):
        frame[column] = pd.Series([text] * 3, dtype=object)
    frame.index = pd.Index([text, "b", "c"], dtype=object, name=paired(text))
    view = Explorer(frame, "review_classify", truth=None, explain=lambda row: None)
    view.text = text
    yield "html", view._static_html()
    view.answers.output = text
    yield "plain", repr(view)
    view.close()
    panel = ExplanationPanel(lambda row: None, lambda row: text)
    panel._show_message(0, text)
    yield "html", panel.message.value
    panel.close()


@shows(
    "widgets.attention.view",
    "AttentionView",
    "widgets.attention.matrix_svg",
    "widgets.attention.static_html",
)
def an_attention_view(world: World, text: str) -> Iterator[tuple[str, Any]]:
    from base64 import b64decode

    from nbllm.widgets.attention.view import AttentionView

    view = AttentionView(recorded(world, text))
    still = view._static_html()
    yield "html", still
    [(_, picture)] = [one for one in Page(still).elements if one[0] == "img"]
    kind, _, data = picture["src"].partition(",")
    assert kind == "data:image/svg+xml;base64"
    yield "html", b64decode(data).decode()
    yield "html", view.to_svg()
    yield "plain", repr(view)
    view.close()


@shows("widgets.page", "Page", "Export")
def a_page(world: World, text: str) -> Iterator[tuple[str, Any]]:
    from nbllm.widgets.attention.export import Page as Written
    from nbllm.widgets.attention.view import AttentionView

    view = AttentionView(recorded(world, text))
    path = world.folder / "attention.html"
    view.to_html(path)
    view.close()
    source = path.read_text(encoding="utf-8")
    yield "html", source
    content = re.search(r'id="nbllm-content">(.*?)</script', source, re.DOTALL)
    assert content is not None and "<" not in content[1]
    [outline] = [
        entry["content"]
        for entry in json.loads(content[1])["answers"]["entries"]
        if entry["request"]["kind"] == "outline"
    ]
    assert text in outline["queries"]["tokens"]
    yield "plain", repr(Written(Path(f"/{text}"), 5, text))


def paired(text: str) -> str:
    """Without halves of a pair, which pandas has neither as a name nor in a column of text."""
    return text.encode("utf-8", "replace").decode()


def recorded(world: World, text: str) -> Any:
    """A recording of a model and of tokens with that name."""
    row = world.recording.queries
    row = replace(row, tokens=(*row.tokens[:-1], text))
    return replace(world.recording, model=text, queries=row, keys=row)


@shows("engine.perplexity", "Perplexity")
def a_perplexity(world: World, text: str) -> Iterator[tuple[str, Any]]:
    from nbllm.engine.perplexity import Perplexity

    one = np.ones(1)
    yield "plain", repr(Perplexity(text, one, one.astype(int), one.astype(int), 8, 4))


@shows("NbllmError")
def an_error(world: World, text: str) -> Iterator[tuple[str, Any]]:
    for name in errors.__all__:
        yield "plain", str(getattr(errors, name)(text))


def harmless(text: str) -> str:
    """A text of the same length, which nothing else holds."""
    return ("qjxk" * 10)[: len(text)]


SLOW = {"a_page"}  # these show one text that holds all others


@pytest.mark.parametrize("name", CASES)
def test_a_text_stays_text(name: str, world: World) -> None:
    case = CASES[name][1]
    for text in ["\n".join(HARMFUL)] if name in SLOW else HARMFUL:
        plain = harmless(text)
        pairs = list(zip(case(world, plain), case(world, text), strict=True))
        assert pairs
        for (kind, expected), (_, found) in pairs:
            {"html": check_html, "plain": check_plain, "chart": check_chart}[kind](
                found, expected, text, plain
            )


def check_html(found: str, expected: str, text: str, plain: str) -> None:
    shown, model = Page(found), Page(expected)
    assert shown.structure == model.structure
    for _, attributes in shown.elements:
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:image/").startswith("data:image/")
        assert attributes.get("href", "https://").startswith(("https://", "data:image/"))
    found.encode()
    assert not OBEYED.search(found)
    # As it is, with a question mark for half of a pair as frames have it, or quoted.
    ways = {visible(text), visible(paired(text)), quoted(text)}
    count = sum(map(shown.times, ways))
    # The tokens at a matrix leave carriage returns out.
    assert count == model.times(plain) or ("\r" in text and count > 0)


def quoted(text: str) -> str:
    """As a repr has it, without its quotation marks."""
    return repr(text)[1:-1]


def check_plain(found: str, expected: str, text: str, plain: str) -> None:
    assert not OBEYED.search(found)
    found.encode()
    assert plain not in expected or visible(text) in found or quoted(text) in found


def check_chart(found: Any, expected: Any, text: str, plain: str) -> None:
    written = [part.replace("<br>", "\n") for part in strings(json.loads(found.to_json()))]
    shown = [part for part in written if not part.endswith("<extra></extra>")]
    assert not any(re.search("[<>$]", part) for part in shown)
    model = "".join(strings(json.loads(expected.to_json())))
    assert plain not in model or visible(text) in html.unescape("".join(shown))


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


# Their reprs hold numbers and nbllm's own words.
NO_TEXT = {"Counts", "Forecast", "FrameAccessor", "SeriesAccessor"}
HTML = re.compile(r"</[a-z]")
PACKAGE = Path(nbllm.__file__).parent
METHODS = {"_repr_html_", "_repr_mimebundle_", "_ipython_display_", "__repr__", "__str__", "to_svg"}


def shown_by() -> Iterator[str]:
    """Modules that write HTML or SVG, and classes that say how they are shown."""
    for path in PACKAGE.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
        comments = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        texts = (
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and id(node) not in comments
        )
        if "xml.etree" in source or any(isinstance(t, str) and HTML.search(t) for t in texts):
            yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and METHODS & {
                made
                for part in node.body
                for made in (
                    [part.name]
                    if isinstance(part, ast.FunctionDef)
                    else [target.id for target in part.targets if isinstance(target, ast.Name)]
                    if isinstance(part, ast.Assign)
                    else []
                )
            }:
                yield node.name


def test_everything_that_is_shown_is_tested() -> None:
    covered = {name for what, _ in CASES.values() for name in what}
    assert set(shown_by()) <= covered | NO_TEXT


def test_the_browser_half_reads_html_in_one_place_alone() -> None:
    """The summary of a run, which `a_run` looks at; all else is set as text (shared/dom.ts)."""
    reads = re.compile(
        r"(?:inner|outer|insertAdjacent)HTML|DOMParser|srcdoc|document\.write|setHTML"
        r"|createContextualFragment|\bhref\b|\beval\(|new Function"
    )
    folder = PACKAGE.parent / "widgets"
    found = {
        (str(path.relative_to(folder)), match)
        for room in ("attention", "explorer", "lab", "run", "shared")
        for path in (folder / room).rglob("*.ts")
        for match in reads.findall(path.read_text(encoding="utf-8"))
    }
    assert found == {(str(Path("run", "index.ts")), "innerHTML")}


# Terminals


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("file", [Terminal, io.StringIO])
@pytest.mark.parametrize("text", HARMFUL)
def test_a_bar_writes_only_its_own_control_characters(file: type[io.StringIO], text: str) -> None:
    from nbllm.display.progress_bar import ProgressBar

    written = []
    for desc in (text, harmless(text)):
        out = file()
        with ProgressBar(total=3, desc=desc, file=out, ncols=200, mininterval=0) as bar:
            bar.update()
            bar.set_postfix_str(desc)
            bar.display(desc)
        written.append(out.getvalue())
    assert visible(text) in written[0]
    assert OBEYED.findall(written[0]) == OBEYED.findall(written[1])
    assert written[0].count("\n") == written[1].count("\n")


@settings(deadline=None)
@given(any_text, st.lists(st.integers(0, 40), max_size=6))
def test_a_stream_in_a_terminal_is_the_visible_text(text: str, cuts: list[int]) -> None:
    from nbllm.notebook.stream import Stream

    stream, out = Stream(SimpleNamespace()), io.StringIO()
    with redirect_stdout(out):
        for cut in sorted(cuts):
            stream.update(text[:cut])
        stream.end(text, text)
    assert out.getvalue() == f"{visible(text)}\n({visible(text)})\n"


@pytest.mark.parametrize("text", HARMFUL)
def test_warnings_and_lines_are_visible(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning) as caught:
        warn_user(text)
    assert str(caught[0].message) == visible(text)
    say(text)
    say(text, error=True)
    assert capsys.readouterr() == (f"{visible(text)}\n", f"{visible(text)}\n")


@pytest.mark.parametrize("text", HARMFUL)
def test_the_command_line_is_visible(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    from nbllm.cli import main

    assert main(["verify", f"./{text}"]) == 1
    assert visible(text) in capsys.readouterr().err


# Links


@pytest.mark.parametrize(
    ("terms", "linked"),
    [
        ("https://example.org/careful", True),
        ("https://example.org/\"onmouseover='a()'", True),
        ("javascript:alert(1)", False),
        ("JavaScript:alert(1)//https://", False),
        ("\x01javascript:alert(1)", False),
        ("data:text/html,<script>a()</script>", False),
        ("https://example.org onclick=a()", False),
    ],
)
def test_a_model_card_links_addresses_of_the_web_alone(
    terms: str, linked: bool, world: World
) -> None:
    lines = [f"license_link: {json.dumps(terms)}", f"license: {json.dumps(terms)}"]
    readme = "\n".join(["---", *lines, "---", "# A model", *HARMFUL_MARKDOWN])
    (world.folder / "README.md").write_text(readme, encoding="utf-8")
    card = Page(replace(world.model, folder=world.folder)._repr_html_())
    links = [attributes for tag, attributes in card.elements if tag == "a"]
    assert {link["href"] for link in links} == ({terms} if linked else set())
    assert all({*link} == {"href", "style", "target", "rel"} for link in links)
    assert {tag for tag, _ in card.elements} <= {"div", "p", "dl", "dt", "dd", "a"}
    assert visible(terms) in card.text


HARMFUL_MARKDOWN = [
    "It is [a model](javascript:alert(1)) <img src=x onerror=alert(1)> of &lt;script&gt; films.",
    "",
    "## Limitations",
    'It is wrong ![x](x"onerror=alert(1)) about `<script>alert(1)</script>` and &lt;b&gt; things.',
]
