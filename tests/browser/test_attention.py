"""The attention viewer in JupyterLab: by keyboard alone, on bad texts, and at 4,096 tokens."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

WIDGET = ".jp-mod-active .nbllm-attention"
TINY = """
import nbllm
from tests.conftest import tiny_model
llm = tiny_model("causal")

def fresh(view):
    view.reduce, view.words, view.mask_sink, view.measure = "head", False, False, None
    view.scale = "sqrt"
    view.layer, view.head, view.token = 0, 0, len(view.source.queries) - 1
    view.key = view.window = None
"""
TEXT = "The soup was lukewarm <img src=x onerror=window.hacked=1> 我们喜欢 👍🏽 شكرا, and kind."
VIEWS = {
    "words": f"words = nbllm.inspect(llm, {TEXT!r})",
    "compared": """
before = nbllm.record(llm, "The soup was warm, and the staff were kind.")
after = nbllm.record(llm, "The soup was not warm, and the staff were kind.")
compared = nbllm.inspect(before, after)""",
    "steps": "steps = nbllm.inspect(llm, 'The soup was', generate=6)",
    "cross": """
translator = tiny_model("seq2seq")
cross = nbllm.inspect(translator, "The soup was warm.", target="Warm soup, kind staff!")""",
    "single": "single = nbllm.inspect(llm, 'a')",
}
# 32 layers × 32 heads over 8 of keys × 4,096 tokens, of random queries and keys. At the first
# HTML of a session JupyterLab loads MathJax, whoever shows it: that is not the view's time.
LONG = """
from IPython.display import HTML, display
display(HTML("A recording of 4,096 tokens"))
import nbllm, torch, numpy as np
from nbllm.attention.recording.layer import Layer
from nbllm.attention.recording.recording import Recording, TokenRow
tokens, layers, heads, key_heads, size = 4096, 32, 32, 8, 16
generator = torch.Generator().manual_seed(0)
draw = lambda heads: torch.randn(heads, tokens, size, generator=generator).mul(1.5).bfloat16()
layer = lambda: Layer(query=draw(heads), key=draw(key_heads), scale=size ** -0.5, mask=None,
                      bias=None, causal=True, window=None, softcap=None, sinks=None)
words = tuple(f" word{number}" for number in range(tokens))
ends = np.cumsum([len(word) for word in words])
row = TokenRow(text="".join(words), ids=tuple(range(tokens)), tokens=words,
               spans=tuple((int(end) - len(word), int(end)) for word, end in zip(words, ends)),
               special=(False,) * tokens)
long = Recording(model="random", kind="causal", queries=row, keys=row,
                 layer_numbers=tuple(range(layers)),
                 layers=tuple(layer() for _ in range(layers)),
                 reconstruction_errors=(0.0,) * layers)
"""
BEGAN = "import time; nbllm.inspect; began = 1000 * time.time()"  # its modules are there
# When the view came into the page, and when its head was first on the screen.
CLOCK = """
window.clock = {};
window.now = () => performance.timeOrigin + performance.now();
new MutationObserver(() => {
    const view = document.querySelector('.nbllm-attention');
    if (view) clock.opened ??= now();
    if (view?.querySelector('.matrix canvas[style]') && !clock.drawn) {
        clock.drawn = now();
        // A message sent in a frame comes when the frame is painted; a timer may come later.
        const frame = new MessageChannel();
        frame.port1.onmessage = () => { clock.painted = now(); };
        requestAnimationFrame(() => frame.port2.postMessage(null));
    }
    if (view?.dataset.shown) clock.shown ??= now();
}).observe(document, { childList: true, subtree: true, attributes: true });
"""
# Milliseconds from a click on a head until that head is shown.
SWITCH = """
async (name) => {
    const view = document.querySelector('.nbllm-attention');
    const [layer, head] = name.match(/\\d+/g);
    const before = performance.now();
    view.querySelector(`[aria-label="${name}"]`).click();
    while (!view.dataset.shown.startsWith(`${layer}/${head}/`)) {
        await new Promise(requestAnimationFrame);
    }
    return performance.now() - before;
}
"""


@pytest.fixture(scope="module")
def notebook(open_lab, chromium, lab_server) -> Iterator:
    """A notebook with a view of each kind."""
    with open_lab(chromium, lab_server) as lab:
        lab.write("attention.ipynb", TINY, *(f"{code}\n{name}" for name, code in VIEWS.items()))
        lab.open("attention.ipynb")
        lab.run_all()
        lab.page.evaluate("jupyterapp.commands.execute('application:toggle-left-area')")
        yield lab


@pytest.fixture
def show(notebook):
    """Brings a view to the top of the page, as it was at first; gives the page."""

    def show(name: str):
        notebook.evaluate(f"fresh({name})")
        notebook.show_cell(f"{name} = nbllm.inspect")
        notebook.page.wait_for_selector(f"{WIDGET}[data-shown^='0/0/']")
        return notebook

    return show


def wait_for_text(lab, selector: str, pattern: str) -> str:
    """The text of the first element that matches, once it holds the pattern."""
    lab.page.wait_for_function(
        "([selector, pattern]) => new RegExp(pattern).test("
        "document.querySelector(selector)?.textContent ?? '')",
        arg=[selector, pattern],
    )
    return lab.page.locator(selector).first.inner_text()


def test_everything_by_keyboard(show) -> None:
    lab = show("words")
    page, keyboard = lab.page, lab.page.keyboard

    def tab_to(selector: str) -> None:
        for _ in range(40):
            keyboard.press("Tab")
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                outline = "getComputedStyle(document.activeElement).outlineStyle"
                assert page.evaluate(outline) != "none"
                return
        pytest.fail(f"Tab does not reach {selector}")

    page.locator(f"{WIDGET} input[type=number]").first.focus()
    keyboard.press("ArrowUp")  # it is a spin button
    lab.wait_for_value("words.layer", 1)
    tab_to("select")
    keyboard.press("ArrowDown")
    lab.wait_for_value("words.reduce", "mean")
    keyboard.press("ArrowUp")
    lab.wait_for_value("words.reduce", "head")
    tab_to("select")
    keyboard.press("ArrowDown")
    lab.wait_for_value("words.measure", "entropy")
    wait_for_text(lab, f"{WIDGET} .about", "Sorted by entropy")
    keyboard.press("ArrowUp")
    tab_to("input[type=checkbox]")
    keyboard.press("Space")
    lab.wait_for_value("words.words", True)
    keyboard.press("Space")

    tab_to("[role=gridcell]")
    keyboard.press("ArrowDown")
    lab.wait_for_value("words.head", 1)
    keyboard.press("ArrowLeft")
    lab.wait_for_value("words.layer", 0)

    tab_to("[role=option]")
    keyboard.press("Home")
    lab.wait_for_value("words.token", 0)
    for _ in range(5):
        keyboard.press("ArrowRight")
    lab.wait_for_value("words.token", 5)
    keyboard.press("Shift+ArrowLeft")
    lab.wait_for_value("[words.token, words.key]", [5, 4])

    tab_to(".tools button[title='Zoom in']")
    keyboard.press("Enter")
    lab.wait_for_value("words.window is not None", True)
    tab_to(".tools button[title='Show all']")
    keyboard.press("Enter")
    lab.wait_for_value("words.window", None)

    tab_to(".stage")
    keyboard.press("ArrowDown")  # starts at the selected cell
    keyboard.press("ArrowLeft")
    said = wait_for_text(lab, f"{WIDGET} .readout", r" 5 → [^]* 3: <?\d\.\d")
    weight = said.rsplit(": ", 1)[1].strip("<")
    exact = lab.evaluate("float(words.recording.weights(words.layer, words.head)[5, 3])")
    assert float(weight) == pytest.approx(exact, abs=1e-4)
    keyboard.press("Enter")
    lab.wait_for_value("[words.token, words.key]", [5, 3])
    wait_for_text(lab, f"{WIDGET} .detail", r"5 → .* 3: score")
    keyboard.press("+")
    lab.wait_for_value("words.window is not None", True)
    window = lab.evaluate("list(words.window)")
    keyboard.press("Shift+ArrowDown")
    lab.wait_for_value(f"words.window[0] > {window[0]}", True)
    keyboard.press("0")
    lab.wait_for_value("words.window", None)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_every_kind_of_view_passes_axe(show, theme: str) -> None:
    for name in VIEWS:
        lab = show(name)
        lab.theme(theme)
        lab.page.set_viewport_size({"width": 1300, "height": 1500})
        lab.show_cell(f"{name} = nbllm.inspect")
        lab.page.wait_for_timeout(1500)  # the pictures of all heads
        lab.screenshot(f"attention-{name}-{theme.split()[-1].lower()}")
        assert lab.violations(WIDGET) == []
        lab.theme("JupyterLab Light")
        lab.page.set_viewport_size({"width": 1400, "height": 1000})


def test_tokens_that_are_markup_or_many_bytes_are_shown_as_text(show) -> None:
    lab = show("words")
    lab.evaluate("words.set_trait('words', True)")
    lab.page.wait_for_function(
        "(words) => [...document.querySelectorAll('.jp-mod-active .words .token')]"
        ".map((word) => word.textContent.trim()).join(' ').includes(words)",
        arg="lukewarm",
    )
    shown = [word.strip() for word in lab.page.locator(f"{WIDGET} .words .token").all_inner_texts()]
    assert {"lukewarm", "img", "喜欢", "👍🏽", "شكرا"} <= set(shown)
    expect(lab.page.locator(f"{WIDGET} img")).to_have_count(0)
    assert lab.page.evaluate("window.hacked") is None


def test_words_are_joined_in_the_matrix(show) -> None:
    lab = show("words")
    tokens = lab.evaluate("list(words.recording.tokens)")
    first, last = len(tokens) - 4, len(tokens) - 2
    assert tokens[first : last + 1] == [" k", "in", "d"]
    lab.evaluate("words.set_trait('words', True)")
    wait_for_text(lab, f"{WIDGET} .legend", "The pieces of a word are joined")
    lab.evaluate(f"[words.set_trait('token', {first}), words.set_trait('key', {first})]")
    lab.page.wait_for_selector(f"{WIDGET}[data-shown='0/0/{first}']")
    lab.page.evaluate("document.activeElement.blur()")
    lab.page.locator(f"{WIDGET} .stage").focus()
    lab.page.keyboard.press("ArrowDown")  # starts at the selected cell
    said = wait_for_text(lab, f"{WIDGET} .readout", r"joined, 3 × 3 cells")
    assert said.startswith(f"kind {first}–{last} → kind {first}–{last}: ")
    block = f"[{first}:{last + 1}, {first}:{last + 1}]"
    exact = lab.evaluate(f"float(words.recording.weights(0, 0){block}.sum(1).mean())")
    assert float(said.split(": ")[1].split()[0]) == pytest.approx(exact, abs=1e-4)
    lab.page.keyboard.press("ArrowLeft")  # to the word before, and not to a piece of this one
    wait_for_text(lab, f"{WIDGET} .readout", r"→ and")


def test_heads_are_sorted_by_what_was_computed_of_them(show) -> None:
    lab = show("words")
    lab.evaluate(
        "setattr(words, 'measures', __import__('nbllm.attention.analysis.ablation', fromlist=['*'])"
        f".head_importance(llm, {TEXT!r}))"
    )
    menu = lab.page.locator(WIDGET).get_by_label("Sort heads by")
    lab.page.wait_for_function(
        "(menu) => [...menu.options].some(({ value }) => value === 'importance')",
        arg=menu.element_handle(),
    )
    menu.select_option("importance")
    lab.wait_for_value("words.measure", "importance")
    wait_for_text(lab, f"{WIDGET} .about", "Sorted by importance")
    best = lab.evaluate(
        "words.measures.nlargest(1, 'importance')[['layer', 'head']].values[0].tolist()"
    )
    button = lab.page.locator(f"{WIDGET} .ranked button").first
    expect(button).to_have_attribute("title", f"layer {best[0]}, head {best[1]}")
    lab.evaluate("setattr(words, 'measures', None)")
    lab.wait_for_value("words.measure", None)
    lab.page.wait_for_function("(menu) => menu.value === ''", arg=menu.element_handle())


def test_one_token(show) -> None:
    lab = show("single")
    assert lab.evaluate("len(single.recording)") == 1
    expect(lab.page.locator(f"{WIDGET} .status")).to_be_hidden()
    lab.page.locator(f"{WIDGET} .matrix canvas").click(position={"x": 105, "y": 91})
    wait_for_text(lab, f"{WIDGET} .readout", "1.0000")


def test_zoom_and_pan_by_pointer(show) -> None:
    lab = show("words")
    page = lab.page
    page.locator(f"{WIDGET} .matrix").scroll_into_view_if_needed()
    box = page.locator(f"{WIDGET} .matrix canvas").bounding_box()
    x, y = box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.8
    page.mouse.click(x, y)  # from now on the wheel is meant for the matrix
    page.mouse.wheel(0, -400)
    lab.wait_for_value("words.window is not None", True)
    before = lab.evaluate("list(words.window)")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + 120, steps=6)
    page.mouse.up()
    lab.wait_for_value(f"words.window[0] < {before[0]}", True)
    assert lab.evaluate("words.window[1] - words.window[0]") == before[1] - before[0]


def test_the_sink_is_masked_and_its_mass_is_said(show) -> None:
    lab = show("words")
    # A tiny random model has no sink of its own.
    lab.evaluate("setattr(words.handler.sources['causal', 'a'], 'sink', 0)")
    lab.evaluate("words.set_trait('mask_sink', True)")
    lab.page.wait_for_timeout(100)
    token = lab.evaluate("words.token")
    share = lab.evaluate(f"float(words.source.sink_mass(words.selection, [{token}])[0])")
    said = wait_for_text(lab, f"{WIDGET} .flow", "was removed")
    assert f"{round(100 * share)} %" in said or ("< 1 %" in said and share < 0.005)


def test_two_recordings_side_by_side_and_their_difference(show) -> None:
    lab = show("compared")
    expect(lab.page.locator(f"{WIDGET} .stage")).to_have_count(3)
    assert lab.evaluate("[compared.comparand, len(compared.source.queries)]") == [
        "difference",
        lab.evaluate("len(compared.handler.sources['causal', 'a'].queries)"),
    ]
    wait_for_text(lab, f"{WIDGET} .about", "Sorted by difference")
    lab.page.locator(WIDGET).get_by_label("Compare").select_option("b")
    lab.wait_for_value("compared.comparand", "b")
    wait_for_text(lab, f"{WIDGET} .words", "not warm")
    # A click into the matrix of the other goes over to it.
    lab.page.locator(f"{WIDGET} .stage").first.locator("canvas").click(
        position={"x": 120, "y": 200}
    )
    lab.wait_for_value("compared.comparand", "a")
    # And stays where it was zoomed to, at the tokens that both have.
    last = lab.evaluate("len(compared.source.queries)")
    lab.evaluate(f"compared.set_trait('window', (4, {last}, 4, {last}))")
    lab.page.wait_for_timeout(500)
    lab.page.locator(f"{WIDGET} .stage").nth(1).locator("canvas").click(
        position={"x": 120, "y": 200}
    )
    lab.wait_for_value("compared.comparand", "b")
    longer = lab.evaluate("len(compared.source.queries)")
    assert longer > last
    first = lab.evaluate("compared.handler.source('causal', 'difference').places[1][4]")
    assert lab.evaluate("compared.window") == [first, longer, first, longer]


def test_steps_of_a_generation(show) -> None:
    lab = show("steps")
    prompt = lab.evaluate("steps.recording.prompt_length")
    slider = lab.page.locator(WIDGET).get_by_label("Step of the generation")
    slider.focus()
    lab.page.keyboard.press("Home")
    lab.wait_for_value("steps.token", prompt - 1)
    lab.page.keyboard.press("ArrowRight")
    lab.wait_for_value("steps.token", prompt)
    wait_for_text(lab, f"{WIDGET} .step", "step 2 of")
    assert lab.page.locator(f"{WIDGET} .written .token").count() == lab.evaluate(
        f"len(steps.recording) - {prompt}"
    )


def test_the_parts_of_an_encoder_decoder(show) -> None:
    lab = show("cross")
    expect(lab.page.locator(f"{WIDGET} .words")).to_have_count(2)
    lab.evaluate("cross.set_trait('token', len(cross.recording.queries) - 1)")
    for part in ("encoder", "decoder", "cross"):
        lab.page.locator(WIDGET).get_by_label("Part").select_option(part)
        lab.wait_for_value("cross.stack", part)
        lab.page.wait_for_function(
            "(count) => document.querySelectorAll('.jp-mod-active .words').length === count",
            arg=2 if part == "cross" else 1,
        )
    expect(lab.page.locator(f"{WIDGET} .status")).to_be_hidden()


def test_at_double_zoom_nothing_overflows(show) -> None:
    lab = show("words")
    lab.page.set_viewport_size({"width": 670, "height": 500})
    lab.page.wait_for_timeout(500)
    assert (
        lab.page.evaluate(
            """() => {
            const view = document.querySelector('.jp-mod-active .nbllm-attention');
            const { right } = view.getBoundingClientRect();
            return [...view.querySelectorAll('*')]
                .filter((part) => !part.closest('svg, .heads, [hidden]'))
                .filter((part) => part.getBoundingClientRect().right > right + 1)
                .map((part) => part.outerHTML.slice(0, 80));
        }"""
        )
        == []
    )


def test_full_colour_is_the_largest_weight_and_colours_switch_to_the_logarithm(show) -> None:
    lab = show("steps")
    legend = f"{WIDGET} .legend"
    largest = lab.evaluate(
        "max(float(steps.recording.weights(0, 0, columns=[key]).max())"
        " for key in range(len(steps.source.keys)) if key != steps.source.sink)"
    )
    assert f"{largest:.4f} (square-root scale" in wait_for_text(lab, legend, "full at the largest")
    lab.page.wait_for_selector(f"{WIDGET} [role=grid]:not([aria-busy])")
    colours = "(part) => document.querySelector(`{WIDGET} ${part} canvas`).toDataURL()".replace(
        "{WIDGET}", WIDGET
    )
    before = {part: lab.page.evaluate(colours, part) for part in (".matrix", ".heads")}
    lab.page.locator(f"{WIDGET} .stage").focus()
    lab.page.keyboard.press("l")
    lab.wait_for_value("steps.scale", "log")
    assert f"{largest:.4f} (logarithmic scale" in wait_for_text(lab, legend, "logarithmic")
    box = lab.page.locator(WIDGET).get_by_label("log colours")
    expect(box).to_be_checked()
    assert all(lab.page.evaluate(colours, part) != was for part, was in before.items())
    lab.evaluate("steps.set_trait('scale', 'sqrt')")
    wait_for_text(lab, legend, "square-root")
    assert lab.page.evaluate(colours, ".matrix") == before[".matrix"]
    box.focus()
    lab.page.keyboard.press("Space")
    lab.wait_for_value("steps.scale", "log")


def test_a_kernel_that_died_is_said_and_the_picture_comes_back(show) -> None:
    lab = show("words")
    still = lab.page.locator(".jp-mod-active .nbllm-attention-static")
    expect(still).to_be_hidden()
    lab.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown().then(() => null)")
    lab.page.wait_for_timeout(500)
    lab.page.locator(f"{WIDGET} [role=gridcell]").last.click()  # not seen so far
    wait_for_text(lab, f"{WIDGET} .status", "kernel has stopped")
    still.wait_for()


def test_a_view_that_was_saved_with_its_notebook_shows_its_picture(lab) -> None:
    lab.write("saved.ipynb", TINY, f"{VIEWS['words']}\nwords")
    lab.open("saved.ipynb")
    lab.run_all()
    lab.page.wait_for_selector(f"{WIDGET}[data-shown]")
    still = lab.page.locator(".jp-mod-active .nbllm-attention-static")
    expect(still).to_be_hidden()
    with_its_widgets = "@jupyter-widgets/jupyterlab-manager:saveWidgetState"
    lab.page.evaluate(f"jupyterapp.commands.execute('{with_its_widgets}')")
    lab.page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    saved = json.loads((lab.server.folder / "saved.ipynb").read_text(encoding="utf-8"))
    assert "widgets" in saved["metadata"]
    lab.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown().then(() => null)")
    lab.open("saved.ipynb")
    lab.page.evaluate(f"jupyterapp.commands.execute('{with_its_widgets}')")
    wait_for_text(lab, ".nbllm-attention .status", "kernel has stopped")
    expect(lab.page.locator(".nbllm-attention-static")).to_be_visible()


@pytest.mark.parametrize("name", ["words", "compared", "cross"])
def test_a_view_is_there_while_the_cells_below_it_run(lab, name) -> None:
    asked: list[str] = []
    lab.page.on(
        "websocket", lambda made: made.on("framesent", lambda sent: asked.append(str(sent)))
    )
    waits = f"import pathlib, time\nwhile not pathlib.Path('{name}').exists():\n    time.sleep(0.1)"
    lab.write("busy.ipynb", TINY, f"{VIEWS[name]}\n{name}", waits)
    lab.open("busy.ipynb")
    lab.page.evaluate("void jupyterapp.commands.execute('notebook:run-all-cells')")
    try:
        lab.page.wait_for_selector(".nbllm-attention[data-shown]", timeout=60_000)
        assert [s for s in asked if any(kind in s for kind in ("outline", "picture", "tile"))] == []
        lab.page.locator('[aria-label^="layer 1, head 2"]').first.click()
        lab.page.wait_for_selector(".nbllm-attention[data-shown^='1/2/']")
    finally:
        (lab.server.folder / name).touch()
    # Shown again when the cell is done, it has to ask.
    lab.wait_for_value(f"{name}.reduce", "head", timeout_s=30)
    lab.show_cell(f"{name} = nbllm.inspect")
    lab.page.evaluate("jupyterapp.commands.execute('notebook:create-output-view')")
    lab.page.wait_for_selector(".jp-LinkedOutputView .nbllm-attention[data-shown]")
    assert any("outline" in sent for sent in asked)


@pytest.fixture
def frames(lab) -> Iterator[list[int]]:
    """Sizes of what the page received from the kernel, as they arrive."""
    sizes: list[int] = []
    lab.page.on(
        "websocket",
        lambda made: made.on("framereceived", lambda payload: sizes.append(len(payload))),
    )
    yield sizes


def test_at_4096_tokens(lab, frames) -> None:
    lab.page.add_init_script(CLOCK)
    lab.write("long.ipynb", LONG, f"{BEGAN}\nview = nbllm.inspect(long)\nview")
    lab.open("long.ipynb")
    lab.run_all()
    lab.show_cell("view = nbllm.inspect")
    lab.page.wait_for_selector(f"{WIDGET}[data-shown]")
    lab.page.wait_for_function("clock.painted")
    clock = lab.page.evaluate("clock")
    # All thumbnails, so that what follows is measured by itself.
    lab.page.wait_for_selector(f"{WIDGET} [role=grid]:not([aria-busy])", timeout=60_000)
    thumbnails = lab.page.evaluate("now()")
    fresh, bytes_each = [], []
    heads = [f"layer {at}, head {30 - at}" for at in range(5)]
    for head in heads:
        frames.clear()
        fresh.append(lab.page.evaluate(SWITCH, head))
        bytes_each.append(sum(frames))
    seen = [lab.page.evaluate(SWITCH, head) for head in (*heads, *heads[:2])]
    lab.evaluate("view.set_trait('token', 100)")  # far from the last, which is on screen
    lab.page.wait_for_selector(f"{WIDGET}[data-shown$='/100']")
    assert lab.page.evaluate(
        """() => {
            const word = document.querySelector('.words [aria-selected=true]');
            const inner = word.getBoundingClientRect();
            const outer = word.closest('.words').getBoundingClientRect();
            return inner.top >= outer.top && inner.bottom <= outer.bottom;
        }"""
    )
    frames.clear()
    lab.page.locator(f"{WIDGET} .stage").focus()
    lab.page.keyboard.press("+")
    lab.wait_for_value("view.window is not None", True)
    lab.page.wait_for_timeout(1500)
    of_a_zoom = sum(frames)
    lab.page.set_viewport_size({"width": 1300, "height": 1500})
    lab.page.wait_for_timeout(1000)
    lab.screenshot("attention-4096")
    report = {
        "painted after opening, ms": clock["painted"] - clock["opened"],
        "painted after inspect(recording) was called, ms": clock["painted"] - lab.evaluate("began"),
        "words and lines too, ms": clock["shown"] - clock["opened"],
        "all thumbnails, ms": thumbnails - clock["opened"],
        "a head for the first time, ms": sorted(fresh)[2],
        "a head already seen, ms": sorted(seen)[3],
        "bytes of a new head": max(bytes_each),
        "bytes of a zoom": of_a_zoom,
    }
    print(json.dumps({name: round(value) for name, value in report.items()}, indent=1))
    assert max(bytes_each) <= 1_000_000  # not a time: it does not depend on the machine
    assert of_a_zoom <= 1_000_000
