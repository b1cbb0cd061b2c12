"""A real JupyterLab, or Notebook 7, in a real Chromium.

The server keeps its token and its XSRF check, as a user's does; its configuration, kernels
and notebooks lie in a folder of the test run. Requests that leave the machine are refused
and remembered, and so are the page's errors.
"""

import ast
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Error, Page, Playwright, Route, sync_playwright

ROOT = Path(__file__).parents[2]
ARTIFACTS = Path(__file__).parent / "artifacts"
AXE = ROOT / "widgets" / "node_modules" / "axe-core" / "axe.min.js"

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOW_TO_GET_CHROMIUM = (
    "no Chromium was found, so the tests in a browser cannot run. Get one with "
    "`.venv/bin/playwright install --with-deps chromium`, or with the system's package manager "
    "(Debian, Ubuntu: `apt-get install chromium`), or name one in NBLLM_CHROMIUM."
)


def find_chromium(playwright: Playwright) -> str | None:
    """NBLLM_CHROMIUM, else one on PATH, else the one that playwright installed."""
    named = os.environ.get("NBLLM_CHROMIUM")
    if named:
        return named
    on_path = next((path for path in map(shutil.which, CHROMIUMS) if path), None)
    own = playwright.chromium.executable_path
    return on_path or (own if Path(own).exists() else None)


def must_not_skip() -> bool:
    return any(os.environ.get(name) in ("1", "true") for name in ("CI", "NBLLM_REQUIRE_BROWSER"))


@dataclass(frozen=True)
class Server:
    """A running JupyterLab or Notebook 7."""

    url: str
    token: str
    folder: Path  # where its notebooks lie
    pages: str  # below which path it shows one


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def isolated_environment(folder: Path, jupyter_path: Path) -> dict[str, str]:
    """The environment of a JupyterLab that reads nothing of the user's and shows no pop-up."""
    settings = folder / "settings"
    news = settings / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false"}')
    # Without a folder of data its notebooks run on the sets that come with nbllm.
    inherited = {name: value for name, value in os.environ.items() if name != "NBLLM_DATA"}
    return {
        **inherited,
        "JUPYTER_PATH": str(jupyter_path),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(settings),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
        "NBLLM_LEDGER": str(folder / "ledger.sqlite3"),
        "NBLLM_ACTIVITY": str(folder / "activity"),
    }


def wait_until_up(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(300):
        if process.poll() is not None:
            pytest.fail(f"The server ended at once:\n{log.read_text()}")
        try:
            with urllib.request.urlopen(f"{server.url}/api/status?token={server.token}"):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    pytest.fail(f"The server did not answer within a minute:\n{log.read_text()}")


@contextmanager
def serving(
    folder: Path, jupyter_path: Path, app: str, pages: str, *options: str
) -> Iterator[Server]:
    """`python -m app`, with the project's notebooks in a copy of them, until the end."""
    server = Server(
        url=f"http://127.0.0.1:{free_port()}",
        token=secrets.token_hex(16),
        folder=folder / "notebooks",
        pages=pages,
    )
    server.folder.mkdir()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(notebook, server.folder)
    log = folder / f"{app}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", app, "--no-browser", "--allow-root"),
                f"--ServerApp.port={urlsplit(server.url).port}",
                "--ServerApp.port_retries=0",
                "--ServerApp.ip=127.0.0.1",
                f"--IdentityProvider.token={server.token}",
                f"--ServerApp.root_dir={server.folder}",
                *options,
            ],
            env=isolated_environment(folder, jupyter_path),
            cwd=server.folder,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_up(server, process, log)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def serving_lab(folder: Path, jupyter_path: Path) -> Iterator[Server]:
    """A JupyterLab."""
    with serving(
        folder,
        jupyter_path,
        "jupyterlab",
        "lab/tree",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ) as server:
        yield server


@pytest.fixture(scope="session")
def lab_server(tmp_path_factory: pytest.TempPathFactory, jupyter_path: Path) -> Iterator[Server]:
    """The JupyterLab that tests share."""
    with serving_lab(tmp_path_factory.mktemp("lab"), jupyter_path) as server:
        yield server


@pytest.fixture(scope="module")
def fresh_lab_server(
    tmp_path_factory: pytest.TempPathFactory, jupyter_path: Path
) -> Iterator[Server]:
    """One that knows of no runs and no models yet."""
    with serving_lab(tmp_path_factory.mktemp("fresh"), jupyter_path) as server:
        yield server


@pytest.fixture(scope="session")
def notebook7_server(
    tmp_path_factory: pytest.TempPathFactory, jupyter_path: Path
) -> Iterator[Server]:
    """A Notebook 7."""
    with serving(
        tmp_path_factory.mktemp("notebook7"),
        jupyter_path,
        "notebook",
        "notebooks",
        "--JupyterNotebookApp.expose_app_in_browser=True",
    ) as server:
        yield server


# Of one module: while sync_playwright lives, its event loop is this thread's, and a test that
# executes a notebook in-process could not start another.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Chromium, without a window."""
    with sync_playwright() as playwright:
        path = find_chromium(playwright)
        if path is None:
            (pytest.fail if must_not_skip() else pytest.skip)(HOW_TO_GET_CHROMIUM)
        # As root, and in a container with little shared memory, Chromium needs both.
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@dataclass
class Lab:
    """One page of JupyterLab or Notebook 7, and what went wrong in it."""

    page: Page
    server: Server
    left_the_machine: list[str] = field(default_factory=list)
    page_errors: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Refuse and remember what leaves the machine; remember the page's errors."""
        self.page.context.route("**/*", self._refuse_outside)
        self.page.on("websocket", lambda made: self._is_inside(made.url))
        self.page.on("pageerror", self._remember)

    def _remember(self, error: Error) -> None:
        # JupyterLab asks a dead kernel for a subshell, and throws when it hears of its restart.
        if "Canceled future for create_subshell_request" not in str(error):
            self.page_errors.append(str(error))

    def _is_inside(self, url: str) -> bool:
        inside = urlsplit(url).hostname == "127.0.0.1"
        if not inside:
            self.left_the_machine.append(url)
        return inside

    def _refuse_outside(self, route: Route) -> None:
        if self._is_inside(route.request.url):
            route.continue_()
        else:
            route.abort()

    def write(self, name: str, *cells: str) -> None:
        """A notebook of these code cells, in the server's folder."""
        import nbformat.v4

        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(source) for source in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        (self.server.folder / name).write_text(nbformat.writes(notebook), encoding="utf-8")

    def open(self, name: str) -> None:
        """Open a notebook, in the light theme, and wait for its kernel."""
        self.page.goto(
            f"{self.server.url}/{self.server.pages}/{name}?reset&token={self.server.token}"
        )
        self.wait_for_kernel()
        self.theme("JupyterLab Light")

    def wait_for_kernel(self) -> None:
        """Wait until the notebook on the page has its kernel."""
        self.page.wait_for_selector(".jp-Notebook", timeout=60_000)
        # To run before the kernel is connected asks the user to select one, and stalls.
        self.page.wait_for_function(
            "window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel"
            "?.connectionStatus === 'connected'",
            timeout=60_000,
        )
        self.page.evaluate("jupyterapp.shell.currentWidget.sessionContext.ready")

    def open_card(self, title: str, folder: str, copy: str) -> None:
        """Click the launcher's card of a curated notebook and wait for its copy in the folder."""
        self.page.evaluate(
            "(cwd) => void jupyterapp.commands.execute('launcher:create', { cwd })", folder
        )
        self.page.locator(".jp-Launcher-section:visible").get_by_text(title).click()
        self.page.wait_for_function(
            "(path) => jupyterapp.shell.currentWidget?.context?.path === path",
            arg=f"{folder}/{copy}",
        )
        # JupyterLab throws for what it asked a kernel, where the page goes before the answer.
        self.page.wait_for_function(
            "jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'",
            timeout=60_000,
        )

    def run_all(self, timeout_s: float = 300) -> None:
        """Run every cell, wait for the last, and fail on a cell's error."""
        self.page.evaluate(
            """() => {
                window.nbllmRan = undefined;
                jupyterapp.commands.execute('notebook:run-all-cells')
                    .then(() => { window.nbllmRan = 'done'; },
                          (reason) => { window.nbllmRan = String(reason); });
            }"""
        )
        self.page.wait_for_function("window.nbllmRan !== undefined", timeout=timeout_s * 1000)
        assert self.cell_errors() == []
        assert self.page.evaluate("window.nbllmRan") == "done"

    def show_cell(self, fragment: str) -> None:
        """Bring the cell whose source holds the fragment to the top of the page.

        JupyterLab draws only the cells near the viewport.
        """
        self.page.evaluate(
            """async (fragment) => {
                const { content } = jupyterapp.shell.currentWidget;
                const sources = content.widgets.map((cell) => cell.model.sharedModel.source);
                const index = sources.findIndex((source) => source.includes(fragment));
                if (index < 0) throw new Error(`no cell holds ${fragment}`);
                content.activeCellIndex = index;
                await content.scrollToItem(index, 'start');
            }""",
            fragment,
        )

    def cell_errors(self) -> list[str]:
        """The error outputs of the notebook's cells."""
        found: list[str] = self.page.evaluate(
            """() => jupyterapp.shell.currentWidget.model.sharedModel.cells
                .flatMap((cell) => cell.cell_type === 'code' ? cell.outputs : [])
                .filter((output) => output.output_type === 'error')
                .map((output) => `${output.ename}: ${output.evalue}`)"""
        )
        return found

    def evaluate(self, expression: str) -> Any:
        """The value of a Python expression in the notebook's kernel, through JSON.

        It goes the way that the notebook's own cells go, without leaving one behind.
        """
        answer = self.page.evaluate(
            """async (expression) => {
                const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
                const reply = await kernel.requestExecute({
                    code: '', store_history: false, user_expressions: { value: expression },
                }).done;
                return reply.content.user_expressions.value;
            }""",
            f"__import__('json').dumps({expression})",
        )
        assert answer["status"] == "ok", f"{answer.get('ename')}: {answer.get('evalue')}"
        return json.loads(ast.literal_eval(answer["data"]["text/plain"]))

    def wait_for_value(self, expression: str, wanted: Any, timeout_s: float = 10) -> None:
        """Wait until the kernel gives the expression the wanted value."""
        until = time.monotonic() + timeout_s
        while (value := self.evaluate(expression)) != wanted:
            assert time.monotonic() < until, f"{expression} is {value!r}, not {wanted!r}"
            self.page.wait_for_timeout(50)

    def theme(self, name: str) -> None:
        """Switch JupyterLab's theme: "JupyterLab Light" or "JupyterLab Dark"."""
        light = "true" if name.endswith("Light") else "false"
        if self.page.evaluate("document.body.dataset.jpThemeLight") != light:
            self.page.evaluate(
                "(theme) => jupyterapp.commands.execute('apputils:change-theme', { theme })", name
            )
        self.page.wait_for_function(
            "(light) => document.body.dataset.jpThemeLight === light", arg=light
        )

    def colour(self, selector: str, name: str) -> str:
        """A computed style of the first element that matches."""
        found: str = self.page.locator(selector).first.evaluate(
            "(element, name) => getComputedStyle(element).getPropertyValue(name)", name
        )
        return found

    def pixels(self, selector: str) -> str:
        """The pixels of the first canvas that matches, as a data URL."""
        found: str = self.page.locator(selector).first.evaluate("(canvas) => canvas.toDataURL()")
        return found

    def violations(self, selector: str) -> list[str]:
        """What axe finds wrong inside the elements that match.

        JupyterLab's own page breaks rules of axe; what is scanned is the widget alone.
        """
        self.page.add_script_tag(content=AXE.read_text(encoding="utf-8"))
        found = self.page.evaluate(
            "(selector) => axe.run(selector, { resultTypes: ['violations'] })", selector
        )
        return [
            f"{rule['id']} ({rule['impact']}): {rule['help']}: {node['html'][:160]}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]

    def screenshot(self, name: str) -> Path:
        """A picture of the page, in tests/browser/artifacts."""
        ARTIFACTS.mkdir(exist_ok=True)
        path = ARTIFACTS / f"{name}.png"
        self.page.screenshot(path=path)
        return path

    def close(self) -> None:
        """End the server's kernels, which hold a model each.

        The page goes first: a kernel that ends below it, with a request of JupyterLab's still on
        its way, is an error to it.
        """
        self.page.close()
        asking = self.page.context.request
        token = {"token": self.server.token}
        sessions = f"{self.server.url}/api/sessions"
        for session in asking.get(sessions, params=token).json():
            asking.delete(f"{sessions}/{session['id']}", params=token)
        self.page.context.close()


@pytest.fixture(scope="session")
def open_lab() -> Callable[[Browser, Server], AbstractContextManager[Lab]]:
    """Opens a page on a JupyterLab; at its end nothing has left and no page error was seen."""

    @contextmanager
    def opened(chromium: Browser, server: Server) -> Iterator[Lab]:
        context = chromium.new_context(viewport={"width": 1400, "height": 1000})
        lab = Lab(context.new_page(), server)
        lab.watch()
        try:
            yield lab
        finally:
            lab.close()
        assert lab.left_the_machine == []
        assert lab.page_errors == []

    return opened


@pytest.fixture
def lab(open_lab: Any, chromium: Browser, lab_server: Server) -> Iterator[Lab]:
    """A page of the test's own on the running JupyterLab."""
    with open_lab(chromium, lab_server) as lab:
        yield lab
