"""%%attention: a cell's text, and what a model looks at in it."""

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
        """Show what a model looked at in the text of this cell.

            %%attention [--model NAME] [--layer N] [--head N] [--generate N]
            The plot was thin, but I loved it.

        The text is taken as it stands: {braces} are braces. `--model` names a variable that
        holds a model, or what nbllm.load() takes; without it the model loaded last reads the
        text, else the default one. `--layer` and `--head` are opened, from 0. `--generate`
        lets the model write up to N tokens, and shows these too. The view is the cell's value.
        """
        options = _options(line)
        text = cell.removesuffix("\n")
        from nbllm.blank import is_blank

        if is_blank(text):
            raise UsageError("%%attention needs a text: write it below, in the same cell.")
        # What is heavy is imported by the first cell that needs it, not by %load_ext.
        from nbllm.widgets.attention.view import inspect

        more = {"generate": options.generate} if options.generate else {}
        assert self.shell is not None
        view = inspect(resolve_model(self.shell, options.model), text, **more)
        for name in ("layer", "head"):
            if getattr(options, name) is not None:
                setattr(view, name, getattr(options, name))
        return view


def _options(line: str) -> Namespace:
    """The options of the magic's line; UsageError for what it does not know."""
    parser = MagicArgumentParser("%%attention", add_help=False)  # type: ignore[no-untyped-call]
    parser.add_argument("--model", metavar="NAME")
    parser.add_argument("--layer", type=int, metavar="N")
    parser.add_argument("--head", type=int, metavar="N")
    parser.add_argument("--generate", type=int, default=0, metavar="N")
    options: Namespace = parser.parse_argstring(line)  # type: ignore[no-untyped-call]
    if options.generate < 0:
        raise UsageError("--generate takes a number of tokens, 0 or more.")
    return options
