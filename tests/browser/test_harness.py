"""The harness on a widget of a few lines: what it says of others can be believed."""

import pytest

pytestmark = pytest.mark.browser

COUNTER = '''
import anywidget, traitlets

class Counter(anywidget.AnyWidget):
    _esm = """
    function render({ model, el }) {
        el.classList.add("counter");
        el.style.color = "var(--jp-ui-font-color1)";
        const button = document.createElement("button");
        const show = () => { button.textContent = `count ${model.get("count")}`; };
        button.addEventListener("click", () => {
            model.set("count", model.get("count") + 1);
            model.save_changes();
        });
        model.on("change:count", show);
        show();
        el.append(button);
    }
    export default { render };
    """
    count = traitlets.Int(0).tag(sync=True)

counter = Counter()
counter
'''


def test_a_click_reaches_the_kernel_and_a_trait_the_page(lab) -> None:
    lab.write("counter.ipynb", COUNTER)
    lab.open("counter.ipynb")
    lab.run_all()

    button = lab.page.get_by_role("button", name="count 0")
    button.click()
    lab.wait_for_value("counter.count", 1)

    lab.evaluate("setattr(counter, 'count', 41)")
    lab.page.get_by_role("button", name="count 41").wait_for()

    light = lab.colour(".counter", "color")
    lab.theme("JupyterLab Dark")
    assert lab.colour(".counter", "color") != light


def test_a_failing_cell_fails_the_run(lab) -> None:
    lab.write("failing.ipynb", "1 / 0", "'never run'")
    lab.open("failing.ipynb")
    with pytest.raises(AssertionError, match="ZeroDivisionError: division by zero"):
        lab.run_all()


def test_requests_that_leave_and_page_errors_are_seen(lab) -> None:
    lab.write("leaving.ipynb", "'nothing'")
    lab.open("leaving.ipynb")
    lab.page.evaluate("fetch('http://192.0.2.1/x').catch(() => null)")
    lab.page.evaluate("setTimeout(() => { throw new Error('on purpose'); })")
    lab.page.wait_for_timeout(200)
    assert lab.left_the_machine == ["http://192.0.2.1/x"]
    assert lab.page_errors == ["on purpose"]
    lab.left_the_machine.clear()
    lab.page_errors.clear()


def test_axe_sees_what_is_wrong(lab) -> None:
    lab.write(
        "unlabelled.ipynb",
        "from IPython.display import HTML\nHTML('<div class=\"bad\"><input></div>')",
    )
    lab.open("unlabelled.ipynb")
    lab.run_all()
    assert [found.split()[0] for found in lab.violations(".bad")] == ["label"]
