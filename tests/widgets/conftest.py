"""What a cell that ends in a widget leaves in the notebook."""

from collections.abc import Callable
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

Outputs = list[dict[str, Any]]


@pytest.fixture
def outputs_of(monkeypatch) -> Callable[[Any], Outputs]:
    """The outputs of something that displays itself, as the last version has them."""

    def outputs_of(shown: Any) -> Outputs:
        outputs: Outputs = []
        places = {}

        def publish(data, metadata=None, *, transient=None, update=False, **_):
            name = (transient or {}).get("display_id")
            if update:
                outputs[places[name]] = data
            else:
                places[name] = len(outputs)
                outputs.append(data)

        shell = InteractiveShell.instance()
        with monkeypatch.context() as patched:
            patched.setattr(shell.display_pub, "publish", publish)
            shown._ipython_display_()
        return outputs

    return outputs_of
