"""A verb at work in JupyterLab: it moves while the kernel is busy, is cancelled, is summed up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

VIEW = ".nbllm-run"
STILL = ".nbllm-run-summary"
BEGUN = ".nbllm-run-begun"
ENDED = ".nbllm-run-ended"
EVIL = "<img src=x onerror=window.hacked=1>"
# Batches of a few rows that take their time, as those of a large model do.
SETUP = f"""
import os, time, warnings
import pandas as pd, nbllm
from nbllm.engine.batching import TokenBudget
from nbllm.frame.tasks.label import _BatchInvariantTask
from tests.conftest import tiny_model

warnings.simplefilter("ignore")
llm = tiny_model("causal")
TokenBudget.of = classmethod(lambda *_, **__: TokenBudget(240))
score, pause, free = _BatchInvariantTask.__call__, 0.8, None

def slow(self, prompts):
    global free
    if free is not None:  # batches, before it waits for a file
        free -= 1
        while free < 0 and not os.path.exists("go"):
            time.sleep(0.05)
    if any("broken" in prompt.text for prompt in prompts):
        raise ValueError({EVIL!r})
    time.sleep(pause)
    return score(self, prompts)

_BatchInvariantTask.__call__ = slow
texts = [f"The soup of day {{n}} was warm." for n in range(119)] + ["a broken text, {EVIL}"]
df = pd.DataFrame({{"review": texts}}, index=[*range(119), {EVIL!r}])
options = dict(labels=["praise", {EVIL!r}], into="kind", model=llm)
"""
CELLS = {
    "setup": SETUP,
    "ask": "answered = df.llm.classify('review', **options)",
    "again": "pause = 0\nagain = df.llm.classify('review', **options)",
    "beside": """
pause = 0.4
run = df.head(40).llm.classify('review', ledger=False, background=True, **options)
run""",
    "look": "run",
    "writes": """
from nbllm.frame.running.eta import EtaEstimator
wrote = EtaEstimator.add_token
EtaEstimator.add_token = lambda self: (time.sleep(0.06), wrote(self))
written = df.head(10).llm.prompt('{review}', into='w', model=llm, max_new_tokens=32, ledger=False)
EtaEstimator.add_token = wrote""",
    "waits": """
import threading
from nbllm.engine.locks import FORWARD_LOCK, named_work

def explain():
    with named_work("an explanation of a row"), FORWARD_LOCK:
        time.sleep(3.5)

threading.Thread(target=explain).start()
time.sleep(0.2)
began = time.monotonic()
late = df.head(4).llm.classify('review', ledger=False, background=True, **options)
started_in = time.monotonic() - began
late""",
    "reloaded": "pause, free = 0.2, 2\nkept = df.llm.classify('review', ledger=False, **options)",
    "dies": "pause = 0.4\ndf.llm.classify('review', ledger=False, **options)",
    "unheard": "pause = 0.4\nlast = df.head(60).llm.classify('review', ledger=False, **options)",
}
# How often what the widget shows changes, in some seconds.
WATCH = """
async (seconds) => {
    const seen = new Set();
    const until = performance.now() + 1000 * seconds;
    while (performance.now() < until) {
        const view = document.querySelector('.nbllm-run');
        seen.add(view.innerText + view.querySelector('.fill').style.transform);
        await new Promise(requestAnimationFrame);
    }
    return seen.size / seconds;
}
"""
# Whether all that a cell shows, and would save, is one summary and, of the widget, nothing.
SUMMED_UP = """
(source) => {
    const cell = jupyterapp.shell.currentWidget.model.sharedModel.cells
        .find((cell) => cell.source === source);
    const shown = cell.outputs.filter((output) => output.data);
    const types = shown.map((output) => Object.keys(output.data).sort().join(' '));
    const html = shown.at(-1)?.data['text/html'] ?? '';
    return types.join() === 'text/plain,text/html text/plain' && shown[0].data['text/plain'] === ''
        && html.includes('nbllm-run-summary');
}
"""


@pytest.fixture(scope="module")
def lab(open_lab, chromium, lab_server) -> Iterator:
    with open_lab(chromium, lab_server) as lab:
        lab.write("run.ipynb", *CELLS.values())
        lab.open("run.ipynb")
        run_cell(lab, "setup")
        yield lab
        # JupyterLab's own, of a request that the kernel was not there to answer.
        lab.page_errors[:] = [e for e in lab.page_errors if "Canceled future" not in e]


def run_cell(lab: Any, name: str) -> None:
    """Run one cell, bring it to the top, and do not wait for it."""
    lab.page.evaluate(
        """async (number) => {
            const { content } = jupyterapp.shell.currentWidget;
            content.activeCellIndex = number;
            void jupyterapp.commands.execute('notebook:run-cell');
            await content.scrollToItem(number, 'start');
        }""",
        list(CELLS).index(name),
    )


def save(lab: Any) -> None:
    lab.page.evaluate("jupyterapp.commands.execute('docmanager:save').then(() => null)")


def in_both_themes(lab: Any, selector: str, name: str) -> None:
    """What axe finds, and a picture to look at."""
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        lab.theme(theme)
        lab.page.wait_for_timeout(300)
        assert lab.violations(selector) == []
        lab.screenshot(f"{name}-{theme.split()[-1].lower()}")


def test_it_moves_while_the_kernel_is_busy_and_is_cancelled_within_a_batch(lab) -> None:
    run_cell(lab, "ask")
    bar = lab.page.locator(f"{VIEW} [role=progressbar]")
    lab.page.wait_for_selector(f"{VIEW} .labels td.number", timeout=60_000)
    assert 2 <= lab.page.evaluate(WATCH, 3) <= 5
    lab.page.wait_for_function(
        f"document.querySelector('{VIEW} .doing').textContent.includes('left')", timeout=20_000
    )
    expect(bar).to_have_attribute("aria-label", "classify, work done")
    assert 0 < int(bar.get_attribute("aria-valuenow")) < 100
    expect(lab.page.locator(f"{VIEW} .figures")).to_contain_text("texts/s", use_inner_text=True)
    assert EVIL in lab.page.locator(VIEW).inner_text()  # as text
    assert lab.page.evaluate("window.hacked") is None
    in_both_themes(lab, VIEW, "run")

    lab.page.locator(f"{VIEW} .cancel").focus()
    lab.page.keyboard.press("Enter")
    asked = time.monotonic()
    lab.page.wait_for_selector(STILL, timeout=30_000)
    assert time.monotonic() - asked < 3  # a batch takes 0.8 s
    done = lab.evaluate("int(answered['kind'].notna().sum())")
    assert 0 < done < 119
    expect(lab.page.locator(STILL)).to_contain_text("cancelled", use_inner_text=True)

    run_cell(lab, "again")
    lab.wait_for_value("'again' in globals()", True, 30)
    assert lab.evaluate("again.llm.report().known") == done
    assert lab.evaluate("again.llm.report().computed") == 119 - done


def test_a_run_beside_the_notebook_is_shown_once_a_cell_and_wherever_it_is_asked_for(lab) -> None:
    run_cell(lab, "beside")
    lab.page.wait_for_selector(VIEW, timeout=30_000)
    run_cell(lab, "look")
    lab.page.wait_for_function(f"document.querySelectorAll('{VIEW}').length === 2")
    lab.wait_for_value("run.done", True, 30)
    for name in ("beside", "look"):
        lab.page.wait_for_function(SUMMED_UP, arg=CELLS[name])
    lab.page.wait_for_function(f"document.querySelectorAll('{VIEW}').length === 0")
    assert lab.evaluate("len(run.result())") == 40


# What the widget and the status bar say at the same moment, as long as both show a run.
FIGURES = """
async () => {
    const seen = [];
    const start = performance.now();
    for (;;) {
        const view = document.querySelector('.nbllm-run');
        const status = document.querySelector('.nbllm-Lab-status').textContent;
        const bar = status.match(/^prompt (\\d+)\\s%(.*)/);
        if (!view && seen.length) return seen;
        if (performance.now() - start > 60000) throw new Error('it does not end');
        const share = view?.querySelector('.counts').textContent.match(/^(\\d+) %/);
        if (share && bar) {
            seen.push([
                performance.now(), Number(share[1]), view.querySelector('.doing').textContent,
                Number(bar[1]), bar[2],
            ]);
        }
        await new Promise((resolve) => setTimeout(resolve, 100));
    }
}
"""


def test_of_a_text_run_all_displays_have_one_figure_and_none_stands_still(lab) -> None:
    run_cell(lab, "writes")
    lab.page.wait_for_selector(VIEW, timeout=30_000)
    seen = lab.page.evaluate(FIGURES)
    assert len(seen) > 20
    # Each is as old as its last look: what one shows, the other has shown in the second before.
    for at, _, _, in_bar, left in seen:
        if at > seen[0][0] + 1500:
            near = [share for when, share, *_ in seen if abs(when - at) <= 1500]
            assert min(near) <= in_bar <= max(near), (at, in_bar, near)
            said = {doing.removeprefix("about ") for when, _, doing, *_ in seen if when <= at}
            assert left.replace("\xa0", " ").removeprefix(" · ") in said
    shares = [share for _, share, *_ in seen]
    assert shares == sorted(shares) and len(set(shares)) > 12
    told = [doing for *_, doing, _, _ in seen if "left" in doing]
    assert len(told) > len(seen) / 2 and len(set(told)) >= 3, told
    lab.wait_for_value("len(written)", 10, 30)


def test_a_run_that_starts_beside_a_pass_waits_for_it_and_not_its_cell(lab) -> None:
    run_cell(lab, "waits")
    lab.wait_for_value("'started_in' in globals() and started_in < 1", True, 4)
    waiting = lab.page.locator(f"{VIEW} .doing:has-text('waiting for an explanation of a row')")
    waiting.wait_for(timeout=10_000)
    lab.wait_for_value("late.done", True, 30)


def test_where_the_server_passes_nothing_on_it_says_to_interrupt(lab) -> None:
    lab.page.route("**/nbllm/jobs/**", lambda route: route.fulfill(status=404, body="none"))
    run_cell(lab, "unheard")
    lab.page.locator(f"{VIEW} .cancel").click(timeout=30_000)
    lab.page.wait_for_selector(f"{VIEW} .message:not([hidden])")
    expect(lab.page.locator(f"{VIEW} .message")).to_contain_text(
        "Interrupt the kernel", use_inner_text=True
    )
    lab.page.unroute("**/nbllm/jobs/**")
    lab.page.wait_for_selector(f"{VIEW} .labels td.number")
    lab.page.evaluate("jupyterapp.commands.execute('notebook:interrupt-kernel').then(() => null)")
    lab.wait_for_value("'last' in globals()", True, 30)
    assert 0 < lab.evaluate("int(last['kind'].notna().sum())") < 60


def test_a_kernel_that_dies_is_said(lab) -> None:
    run_cell(lab, "dies")
    lab.page.wait_for_selector(f"{VIEW} .labels td.number", timeout=30_000)
    lab.page.evaluate(
        "jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart().then(() => null)"
    )
    lab.page.wait_for_selector(f"{VIEW}[data-phase=gone]", timeout=30_000)
    assert (
        "Run the cell again: the ledger was off"
        in lab.page.locator(f"{VIEW} .message").inner_text()
    )
    expect(lab.page.locator(f"{VIEW} .cancel")).to_be_hidden()
    assert lab.violations(VIEW) == []
    lab.screenshot("run-gone")
    lab.page.evaluate("jupyterapp.commands.execute('notebook:clear-cell-output').then(() => null)")


def test_the_summary_is_there_without_kernel_and_widget(lab) -> None:
    lab.page.evaluate("jupyterapp.commands.execute('docmanager:save').then(() => null)")
    lab.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown().then(() => null)")
    saved = (lab.server.folder / "run.ipynb").read_text(encoding="utf-8")
    assert "jupyter.widget" not in saved
    lab.page.reload()
    lab.page.wait_for_selector(STILL, timeout=60_000)
    lab.show_cell("answered = ")
    summary = lab.page.locator(STILL).first
    expect(summary).to_contain_text("classify → kind", use_inner_text=True)
    assert EVIL in summary.inner_text() and lab.page.evaluate("window.hacked") is None
    summary.locator("summary").click()
    expect(summary).to_contain_text("shared prefix", use_inner_text=True)
    in_both_themes(lab, STILL, "run-summary")


def test_a_page_that_is_loaded_again_meanwhile_shows_how_the_run_ended(lab) -> None:
    lab.write("reloaded.ipynb", *CELLS.values())
    lab.open("reloaded.ipynb")
    run_cell(lab, "setup")
    run_cell(lab, "reloaded")
    lab.page.wait_for_selector(f"{VIEW} .labels td.number", timeout=30_000)
    expect(lab.page.locator(BEGUN)).to_be_hidden()
    save(lab)
    lab.page.reload()
    # The kernel is busy and answers for no widget yet; what was saved says what is going on.
    lab.page.wait_for_selector(f"{BEGUN}:visible", timeout=60_000)
    lab.screenshot("run-begun")
    assert lab.violations(BEGUN) == []
    (lab.server.folder / "go").touch()
    for name in ("run-reloaded", "run-reloaded-again"):
        lab.page.wait_for_selector(f"{ENDED} {STILL}", timeout=60_000)
        summary = lab.page.locator(f"{ENDED} {STILL}")
        expect(summary).to_contain_text("120 rows, 119 texts computed", use_inner_text=True)
        assert EVIL in summary.inner_text() and lab.page.evaluate("window.hacked") is None
        expect(lab.page.locator(BEGUN)).to_be_hidden()
        assert lab.violations(ENDED) == []
        lab.screenshot(name)
        save(lab)
        lab.page.reload()
    lab.wait_for_kernel()
    assert lab.evaluate("int(kept['kind'].notna().sum())") == 119

    # Without the kernel, what was saved is there and says what to do.
    lab.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.shutdown().then(() => null)")
    lab.page.reload()
    lab.page.wait_for_selector(f"{BEGUN}:visible", timeout=60_000)
    expect(lab.page.locator(BEGUN)).to_contain_text("run the cell again", use_inner_text=True)
    lab.screenshot("run-reloaded-without-kernel")
