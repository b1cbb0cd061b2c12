"""nbllm's sidebar, status bar item and launcher section, on the real server."""

import json
import re
import shutil
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

PANEL = "#nbllm-panel"
STATUS = ".nbllm-Lab-status"
JOB = f"{PANEL} .nbllm-Lab-jobs .nbllm-Lab-row"
MODEL = f"{PANEL} .nbllm-Lab-models .nbllm-Lab-row"

PASS = 0.15  # seconds that a forward pass is made to take at least

# A real run, slowed down so that there is something to watch: each pass sleeps, and is counted.
LOAD = f"""
import time, threading, os, signal
import nbllm, pandas as pd
llm = nbllm.load("./tiny-causal")
forward, passes = llm.network.forward, []
def slow(*args, **kwargs):
    passes.append(time.time())
    time.sleep({PASS})
    return forward(*args, **kwargs)
llm.network.forward = slow
texts = [f"text {{i}} " + "x" * (i % 300) for i in range(3000)]
df = pd.DataFrame({{"text": texts}})
"""
RUN = "answered = df.llm.classify('text', ['<b>good</b>', 'bad'], model=llm, into='kind')"


SLEEP = "time.sleep(3)"
DIE = f"threading.Timer(1, os.kill, [os.getpid(), signal.SIGKILL]).start()\n{RUN}"
CELLS = [LOAD, RUN, SLEEP, DIE]


@pytest.fixture(scope="module")
def lab_server(fresh_lab_server):
    """What other tests ran would be on the panel."""
    return fresh_lab_server


@pytest.fixture(scope="module")
def page_of_cells(open_lab, chromium, lab_server) -> Iterator:
    with open_lab(chromium, lab_server) as lab:
        lab.write("watched.ipynb", *CELLS)
        lab.open("watched.ipynb")
        show_panel(lab)
        yield lab


@pytest.fixture
def watched(page_of_cells, tiny_folder):
    """A notebook that holds a model, and the panel beside it."""
    lab = page_of_cells
    folder = lab.server.folder / "tiny-causal"
    if not folder.exists():
        expect(lab.page.locator(PANEL)).to_contain_text("Nothing has run yet", use_inner_text=True)
        shutil.copytree(tiny_folder("causal"), folder)
    run_cell(lab, LOAD)
    lab.page.wait_for_selector(MODEL, timeout=60_000)
    return lab


def run_cell(lab, source: str) -> None:
    """Start one of the cells without waiting for its end."""
    lab.page.evaluate(
        """(index) => {
            jupyterapp.shell.currentWidget.content.activeCellIndex = index;
            void jupyterapp.commands.execute('notebook:run-cell');
        }""",
        CELLS.index(source),
    )


def show_panel(lab) -> None:
    lab.page.evaluate("jupyterapp.commands.execute('nbllm:show-panel')")
    lab.page.wait_for_selector(f"{PANEL} h2")


def first_job(lab, state: str, timeout_s: float = 15) -> str:
    """The text of the newest job, once it is in a state."""
    lab.page.wait_for_function(
        "([row, state]) => document.querySelector(row)"
        "?.querySelector('[data-state]')?.dataset.state === state",
        arg=[JOB, state],
        timeout=timeout_s * 1000,
    )
    return lab.page.locator(JOB).first.inner_text().replace("\xa0", " ")


@pytest.fixture
def settings(lab_server) -> Iterator:
    """Writes the file of nbllm's settings, and takes it away at the end."""
    path = lab_server.folder.parent / "settings" / "nbllm" / "plugin.jupyterlab-settings"

    def write(**values) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))

    yield write
    path.unlink(missing_ok=True)


def test_a_run_moves_twice_a_second_and_is_cancelled_within_a_batch(watched) -> None:
    lab, page = watched, watched.page
    held = page.locator(MODEL).first.inner_text().replace("\xa0", " ")
    assert re.search(r"tiny-causal[\s\S]*\w+ · cpu · \d", held), held
    expect(page.locator(f"{PANEL} .nbllm-Lab-models")).to_contain_text(
        "watched.ipynb", use_inner_text=True
    )
    legend = page.locator(f"{PANEL} .nbllm-Lab-legend").first.inner_text()
    assert "tiny-causal" in legend and "Everything else" in legend

    # It moves while the cell runs, and what has the focus keeps it.
    run_cell(lab, RUN)
    # Before the first batch the prompt is calibrated.
    page.wait_for_selector(f"{JOB}:has-text('rows/s') [role=progressbar]", timeout=60_000)
    cancel = page.get_by_role("button", name="Cancel classify → kind")
    cancel.focus()
    seen = page.evaluate(
        """(selector) => new Promise((resolve) => {
            const shown = [];
            const row = document.querySelector(selector);
            const look = () => {
                const text = row.querySelector('.nbllm-Lab-facts').textContent;
                if (shown.at(-1) !== text) shown.push(text);
            };
            const observer = new MutationObserver(look);
            observer.observe(row, { subtree: true, childList: true, characterData: true });
            setTimeout(() => { observer.disconnect(); resolve(shown); }, 3000);
        })""",
        JOB,
    )
    print(f"the panel changed {len(seen)} times in 3 s")
    assert len(seen) >= 4, seen  # twice a second, where no other test works beside it
    assert cancel.evaluate("(button) => button === document.activeElement")
    assert re.match(r"classify \d+ %", page.locator(STATUS).inner_text().replace("\xa0", " "))
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        lab.theme(theme)
        assert lab.violations(PANEL) + lab.violations(STATUS) == []
        lab.screenshot(f"panel-{theme.split()[1].lower()}")

    # By keyboard; at most the batch that is being computed goes on.
    asked = time.time()
    page.keyboard.press("Enter")
    said = first_job(lab, "cancelled")
    assert "The ledger kept" in said and "goes on from there" in said, said
    lab.wait_for_value("bool(answered['kind'].notna().any())", True, timeout_s=20)
    assert lab.evaluate(f"sum(at > {asked + 0.3} for at in passes)") <= 1
    assert lab.evaluate("bool(answered['kind'].isna().any())")
    assert lab.cell_errors() == []


def test_unloading_waits_for_a_busy_kernel_and_frees_the_model(watched) -> None:
    lab, page = watched, watched.page
    run_cell(lab, SLEEP)
    page.get_by_role("button", name="Unload tiny-causal").click()
    page.wait_for_selector(f"{MODEL} :text('The kernel is busy: unloads when it is idle.')")
    page.wait_for_selector(MODEL, state="detached")
    assert lab.evaluate("nbllm.models.in_memory._in_memory == {}")
    # Nothing of it is left in the notebook's names or history.
    assert not lab.evaluate("any('unload' in name for name in globals())")
    assert not lab.evaluate("any('import unload' in line for line in In)")


def test_a_run_whose_kernel_dies_is_lost_and_the_way_on_is_said(watched) -> None:
    lab, page = watched, watched.page
    run_cell(lab, DIE)
    said = first_job(lab, "lost", timeout_s=30)
    assert "Kernel died" in said and "run the cell again" in said, said
    spoken = page.locator(f"{PANEL} [aria-live=polite]").inner_text()
    assert "Kernel died" in spoken and "tiny-causal was unloaded" in spoken, spoken
    expect(page.locator(MODEL)).to_have_count(0)
    page.wait_for_function(
        "jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'",
        timeout=60_000,
    )


LONG = "support_ticket_message_after_the_second_reply_classify"
JOB_STATES = [
    ("running", False, "classify", "kind"),
    ("running", True, "sentiment", "review_sentiment"),
    ("running", True, "classify", LONG),
    ("cancelled", False, "classify", LONG),
    ("failed", False, "translate", "review_translate"),
    ("lost", False, "reply", LONG.replace("_", "")),
]
# Of each job's title, the lines that it takes, and those that it needs in a whole line of the row.
TITLES = """
(width) => {
    const before = (a, b) => a.right <= b.left + 0.5 || a.bottom <= b.top + 0.5;
    const panel = document.querySelector('#nbllm-panel');
    panel.style.width = `${width}px`;
    return [...panel.querySelectorAll('.nbllm-Lab-jobs .nbllm-Lab-row')].map((row) => {
        const name = row.querySelector('.nbllm-Lab-name');
        const lines = (element) => {
            const range = document.createRange();
            range.selectNodeContents(element);
            return new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size;
        };
        const alone = name.cloneNode(true);
        alone.style.cssText = 'display: block';
        row.append(alone);
        const needed = lines(alone);
        alone.remove();
        const parts = [...row.querySelectorAll('.nbllm-Lab-line:first-child > *')]
            .filter((part) => !part.hidden)
            .map((part) => part.getBoundingClientRect());
        const inside = row.getBoundingClientRect();
        return {
            text: name.textContent, lines: lines(name), needed,
            fits: parts.every((part) => part.right <= inside.right + 0.5),
            apart: parts.every((a, i) => i === 0 || before(parts[i - 1], a)),
        };
    });
}
"""


def test_a_title_is_as_wide_as_its_words_whatever_stands_beside_it(lab) -> None:
    page, server = lab.page, lab.server
    now = time.time()
    jobs = [
        {
            **{"id": str(n), "verb": verb, "output": output, "state": state, "model": "smollm2"},
            **{"cancelling": cancelling, "unit": "text", "rows": 298, "texts": 298, "known": 0},
            **{"answered": 8, "failed": 0, "share": 0.09, "rows_per_second": 0.2},
            **{"seconds_left": 600.0, "started": now - 40, "updated": now, "error": "no room"},
            **{"notebook": None, "kernel": None},
        }
        for n, (state, cancelling, verb, output) in enumerate(JOB_STATES)
    ]
    page.route(
        re.compile(r"/nbllm/activity"),
        lambda route: route.fulfill(json={"processes": [], "jobs": jobs, "devices": []}),
    )
    page.goto(f"{server.url}/lab?reset&token={server.token}")
    page.wait_for_selector(".jp-Launcher", timeout=60_000)
    show_panel(lab)
    page.wait_for_selector(f"{JOB}:has-text('Stops after this batch')")
    for page_width, width in ((1440, 220), (1440, 260), (1440, 480), (1100, 220), (1100, 320)):
        page.set_viewport_size({"width": page_width, "height": page_width * 5 // 8})
        titles = page.evaluate(TITLES, width)
        assert len(titles) == len(JOB_STATES)
        for title in titles:
            assert title["lines"] == title["needed"], (width, title)
            assert title["fits"] and title["apart"], (width, title)
    # One figure: of the work, and not of the texts.
    expect(page.locator(JOB).first).to_contain_text("9 %", use_inner_text=True)
    assert "9 %" in page.locator(STATUS).inner_text().replace("\xa0", " ")
    lab.theme("JupyterLab Dark")
    page.evaluate(TITLES, 260)
    assert lab.violations(PANEL) == []
    lab.screenshot("panel-titles-dark")
    lab.theme("JupyterLab Light")


def test_a_launcher_card_opens_a_copy_beside_the_first(lab, settings) -> None:
    settings(pollInterval="soon", launcher=7, area=None, unknown={})  # all of it means the defaults
    page, server = lab.page, lab.server
    (server.folder / "mine").mkdir()
    page.goto(f"{server.url}/lab?reset&token={server.token}")
    page.wait_for_selector(".jp-Launcher", timeout=60_000)
    show_panel(lab)
    page.wait_for_selector(f"#jp-left-stack {PANEL}")
    answer = page.request.get(f"{server.url}/nbllm/notebooks?token={server.token}")
    titles = {notebook["name"]: notebook["title"] for notebook in answer.json()}
    listed = page.locator(f"{PANEL} .nbllm-Lab-gallery button")
    assert listed.all_inner_texts() == list(titles.values())
    page.locator(".jp-Launcher-section:has(h2:text('nbllm'))").scroll_into_view_if_needed()
    lab.screenshot("launcher")
    for name in ("10_sentiment.ipynb", "10_sentiment-1.ipynb"):
        lab.open_card(titles["10_sentiment.ipynb"], "mine", name)
    assert json.loads((server.folder / "mine" / "10_sentiment.ipynb").read_text())["cells"]

    # A change is followed at once, and the layout is there again after a reload.
    change = "jupyterapp.serviceManager.settings.save('nbllm:plugin', JSON.stringify(%s))"
    page.evaluate(change % "{ area: 'right', launcher: false }")
    page.goto(f"{server.url}/lab?token={server.token}")
    page.wait_for_selector(f"#jp-right-stack {PANEL}", state="attached", timeout=60_000)


def test_a_server_without_nbllm_is_said_with_the_way_out(lab) -> None:
    page, server = lab.page, lab.server
    page.route(
        re.compile(r"/nbllm/(activity|notebooks)"),
        lambda route: route.fulfill(status=404, body="<html>Not found</html>"),
    )
    page.goto(f"{server.url}/lab?reset&token={server.token}")
    page.wait_for_selector(".jp-Launcher", timeout=60_000)
    page.evaluate("jupyterapp.commands.execute('nbllm:show-panel')")
    problem = page.locator(f"{PANEL} [role=alert]")
    problem.wait_for()
    expect(problem).to_contain_text(
        "jupyter server extension enable nbllm.lab", use_inner_text=True
    )
    expect(page.locator(f"{PANEL} h2:visible")).to_have_count(0)
    assert lab.violations(PANEL) == []
