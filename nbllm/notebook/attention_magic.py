"""The cell magic %%attention, which shows a model's attention over the cell's text."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from IPython.core.error import UsageError
from IPython.core.magic import Magics, cell_magic, magics_class
from IPython.core.magic_arguments import MagicArgumentParser

from nbllm.notebook.resolve_model import resolve_model

if TYPE_CHECKING:
    from nbllm.widgets.attention.view import AttentionView

__all__ = ["AttentionMagic"]


@magics_class
class AttentionMagic(Magics):
    """The cell magic %%attention."""

    @cell_magic
    def attention(self, line: str, cell: str) -> AttentionView:
        """Show a model's attention over the text of this cell.

            %%attention [--model NAME] [--layer N] [--head N] [--generate N]
            The plot was thin, but I loved it.

        The text is used verbatim, without variables in {braces}. `--model` names a variable with
        a model, or a model for nbllm.load(); the default is the model loaded last, else the
        default model. `--layer` and `--head` select the head to open, from 0. `--generate` lets
        the model write up to N tokens, which are shown too. The view is the cell's value.
        """
        options = _options(line)
        text = cell.removesuffix("\n")
        from nbllm.blank import is_blank

        if is_blank(text):
            raise UsageError("%%attention needs a text: write it below, in the same cell.")
        # Imported here, so that %load_ext stays fast.
        from nbllm.widgets.attention.view import inspect

        more = {"generate": options.generate} if options.generate else {}
        assert self.shell is not None
        view = inspect(resolve_model(self.shell, options.model), text, **more)
        for name in ("layer", "head"):
            if getattr(options, name) is not None:
                setattr(view, name, getattr(options, name))
        return view


def _options(line: str) -> Namespace:
    """Return the options of the magic's line; raise UsageError for invalid ones."""
    parser = MagicArgumentParser("%%attention", add_help=False)  # type: ignore[no-untyped-call]
    parser.add_argument("--model", metavar="NAME")
    parser.add_argument("--layer", type=int, metavar="N")
    parser.add_argument("--head", type=int, metavar="N")
    parser.add_argument("--generate", type=int, default=0, metavar="N")
    options: Namespace = parser.parse_argstring(line)  # type: ignore[no-untyped-call]
    if options.generate < 0:
        raise UsageError("--generate takes a number of tokens, 0 or more.")
    return options
