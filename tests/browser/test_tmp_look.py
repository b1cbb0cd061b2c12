import pytest
pytestmark = pytest.mark.browser
W = ".nbllm-attention"
def test_explore(lab):
    lab.write("x.ipynb", "import nbllm\nm = nbllm.load()", "v = nbllm.inspect(m, 'The soup was lukewarm at best, but the staff were wonderfully kind, so we stayed until they closed.')\nv")
    lab.open("x.ipynb"); lab.run_all(timeout_s=300)
    lab.page.evaluate("jupyterapp.commands.execute('application:toggle-left-area')")
    lab.show_cell("v = nbllm")
    lab.page.wait_for_selector(f"{W}[data-shown]")
    lab.evaluate("v.set_trait('measure', 'previous_token')"); lab.evaluate("v.set_trait('words', True)"); lab.evaluate("v.set_trait('mask_sink', True)"); lab.evaluate("v.set_trait('how', 'mean')")
    lab.page.set_viewport_size({"width": 1300, "height": 1500})
    lab.page.wait_for_timeout(3000)
    lab.page.locator(W).screenshot(path="/tmp/explore/sorted.png")
    lab.evaluate("v.set_trait('how', 'head')"); lab.evaluate("v.set_trait('measure', None)"); 
    lab.page.set_viewport_size({"width": 670, "height": 1500})
    lab.page.wait_for_timeout(3000)
    lab.page.locator(W).screenshot(path="/tmp/explore/half.png")
