"""The shelf: the models that can be fetched, lie on this disk, or are in memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from nbllm.display.card import card
from nbllm.display.table import ColumnFormat, Table
from nbllm.errors import ModelError, UnknownModelError
from nbllm.escaping import visible
from nbllm.models.fetch import cached_models
from nbllm.models.fetch.cached_models import Verified
from nbllm.models.fetch.catalog import CATALOG
from nbllm.models.memory.budget import held_bytes
from nbllm.wording import byte_size

if TYPE_CHECKING:
    import pandas as pd

    from nbllm.models.model import Model

__all__ = ["Item", "Shelf", "shelf"]

_PLACES = {  # in the order in which they are shown, with the columns that say something there
    "in memory": ("name", "bytes", "quantization", "device", "holders", "licence", "source"),
    "on this disk": ("name", "quantization", "bytes", "last_used", "licence", "folder"),
    "left over": ("name", "bytes", "last_used", "folder"),
    "to fetch": ("name", "bytes", "licence", "what"),
}
_HEADINGS = {"bytes": "size", "last_used": "last used"}
_FORMS: dict[str, ColumnFormat] = {
    "bytes": "number",
    "holders": "number",
    "source": "long",
    "folder": "long",
    "what": "long",
}


@dataclass(frozen=True)
class Item:
    """One line of the shelf; a field that does not apply to its place is None."""

    name: str  # as `load`, `remove` and `verify` take it
    place: str  # "in memory", "on this disk", "left over" or "to fetch"
    bytes: int
    licence: str | None = None
    last_used: datetime | None = None
    quantization: str | None = None
    device: str | None = None
    holders: int | None = None  # Models that share the network
    what: str | None = None
    source: str | None = None
    folder: Path | None = None


class Shelf:
    """Models in memory, on this disk and in the catalog, as they were when it was made.

    Shown as a table at the end of a notebook's cell; `.to_frame()` has the same as a pandas
    DataFrame.
    """

    def __init__(self) -> None:
        self.items: list[Item] = list(_items())

    def remove(self, name: str | Path) -> int:
        """Delete a model from this disk, with what interrupted fetches of it left there.

        A model that lies in a folder of your own stays.

        Args:
            name: as the shelf has it, or the path of its folder.

        Returns:
            The bytes that this freed.

        Raises:
            UnknownModelError: there is none by that name.
            ModelError: it is in memory, is being fetched, is your own, or the disk refuses.
        """
        found = cached_models.find(name)
        in_use = [
            model.name
            for model in _loaded()
            for kept in found
            if model.folder is not None
            and model.folder.resolve().is_relative_to(kept.path.resolve())
        ]
        if in_use:
            raise ModelError(
                f"{name} is in memory, and its weights may still be read from the disk. Unload it "
                "first with unload(), each Model that was loaded of it, or restart the kernel."
            )
        freed = sum(cached_models.remove(kept) for kept in found)
        self.items = list(_items())
        return freed

    def verify(self, name: str | Path | None = None) -> list[Verified]:
        """Compare the files of a model on this disk, or of all, with their recorded hashes.

        Each file is hashed again: some seconds for every few gigabytes.

        Args:
            name: as the shelf has it; by default all models.

        Returns:
            One result per model.

        Raises:
            UnknownModelError: there is none by that name.
        """
        found = cached_models.list_cached() if name is None else cached_models.find(name)
        whole = [kept for kept in found if kept.whole]
        if name is not None and not whole:
            raise UnknownModelError(
                f"Of {name} there is only what an unfinished fetch left. `nbllm get {name}` "
                f"goes on with it, `nbllm remove {name}` deletes it."
            )
        return [cached_models.verify(kept) for kept in whole]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per item, one column per field of `Item`."""
        import pandas as pd

        return pd.DataFrame([asdict(item) for item in self.items])

    def __str__(self) -> str:
        tables = [_table(place, items) for place, items in self._by_place()]
        parts = ([table.caption, *(f"  {line}" for line in table.lines())] for table in tables)
        return visible("\n\n".join(map("\n".join, parts)))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return card("", *(_table(place, items).html() for place, items in self._by_place()))

    def _by_place(self) -> Iterator[tuple[str, list[Item]]]:
        for place in _PLACES:
            items = [item for item in self.items if item.place == place]
            if items:
                yield place, items


def shelf() -> Shelf:
    """Return the models that can be fetched, are on this disk, or are in memory.

    Example:
        >>> shelf()  # doctest: +SKIP
        >>> shelf().remove("smollm2")  # doctest: +SKIP
        269060552
    """
    return Shelf()


def _items() -> Iterator[Item]:
    for model in reversed(_loaded()):
        # These import torch, as that model did.
        from nbllm.models.in_memory import holders
        from nbllm.models.memory.placement import devices_of, placement

        yield Item(
            name=model.name,
            place="in memory",
            bytes=held_bytes(model.network),
            licence=model.licence,
            quantization=model.quantization,
            device=devices_of(placement(model.network), str(model.device)),
            holders=holders(model),
            source=model.source,
            folder=model.folder,
        )
    here = set()
    for kept in cached_models.list_cached():
        here |= {kept.name} if kept.whole else set()
        yield Item(
            name=kept.name,
            place="on this disk" if kept.whole else "left over",
            bytes=kept.bytes,
            licence=kept.licence,
            last_used=kept.last_used,
            quantization=kept.quantization,
            what=CATALOG[kept.name].what if kept.name in CATALOG else None,
            folder=kept.path,
        )
    for entry in CATALOG.values():
        if entry.name not in here:
            yield Item(
                name=entry.name,
                place="to fetch",
                bytes=entry.download_bytes,
                licence=entry.licence,
                what=entry.what,
                source=entry.source,
            )


def _loaded() -> list[Model]:
    # Where nothing was loaded, nothing heavy is imported to say so.
    models = sys.modules.get("nbllm.models.in_memory")
    return [] if models is None else models.loaded()


def _title(place: str, items: list[Item]) -> str:
    if place == "to fetch":
        return "To fetch, by nbllm.load(name) or `nbllm get name`"
    title = f"{place.capitalize()}: {byte_size(sum(item.bytes for item in items))}"
    unfinished = ", unfinished or without weights; remove(name) gives it back"
    return title + unfinished if place == "left over" else title


def _table(place: str, items: list[Item]) -> Table:
    columns = _PLACES[place]
    return Table(
        [[_shown(item, column) for column in columns] for item in items],
        [_HEADINGS.get(column) or column for column in columns],
        columns=[_FORMS.get(column, "text") for column in columns],
        caption=_title(place, items),
    )


def _shown(item: Item, column: str) -> str:
    value = getattr(item, column)
    if column == "bytes":
        return byte_size(value)
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return "not stated" if value is None else str(value)
