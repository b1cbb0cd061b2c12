"""A data set by name, from the nearest place that has it.

The order is: the hub if the name says so (`hub:owner/name`), else the folder that the
environment variable NBLLM_DATA names, else the small sets that come with nbllm. Nothing
is fetched from a network unless the name starts with `hub:`.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from nbllm.checks import check_whole, shown
from nbllm.data.catalog import KNOWN, SHIPPED_FOLDER, DataSet
from nbllm.errors import ArgumentError, DataError
from nbllm.escaping import say
from nbllm.wording import counted

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["load"]

HUB = "hub:"


def load(
    name: str,
    *,
    rows: int | None = None,
    split: str | None = None,
    seed: int = 0,
    otherwise: str | None = None,
) -> pd.DataFrame:
    """Load a data set as a pandas frame and print which one it was.

    Args:
        name: a Parquet file's stem in the folder NBLLM_DATA (or in a folder below it), one of
            the small sets of this project (`reviews`, `articles`, `messages`), or
            `hub:owner/name` or `hub:owner/name/configuration` for the Hugging Face hub.
        rows: how many to draw at random; they keep their order and index. None keeps all.
        split: the one split to keep; None keeps all.
        seed: of the draw.
        otherwise: the set to load instead, whole or `rows` of it, where `name` is not here.

    Returns:
        The frame. Labelled texts have columns `text` and `label`, articles `text` and
        `summary`, whatever their origin calls them. `frame.attrs["source"]` is the printed line.

    Raises:
        ArgumentError: an argument makes no sense.
        DataError: the set or split is not here, or the hub does not answer.

    Example:
        >>> reviews = load("reviews", rows=3)
        reviews: 3 of 124 rows from the sets that come with nbllm; licence: Apache-2.0; ...
        >>> reviews.columns.tolist()
        ['text', 'label', 'product', 'stars']
    """
    if not isinstance(name, str) or not name.strip():
        raise ArgumentError(f"name={shown(name)} is no name of a data set. Pass one as a string.")
    if rows is not None:
        rows = check_whole("rows", rows)
    seed = check_whole("seed", seed, least=0)
    if name.startswith(HUB):
        frame, place = read_hub(name.removeprefix(HUB), split)
        known = DataSet(name, str(frame.attrs.pop("licence")), f"huggingface.co/datasets/{place}")
        place = "the hub"
    else:
        files = local_files()
        if name not in files:
            if otherwise is None:
                raise DataError(not_here(name, files))
            return load(otherwise, rows=rows, seed=seed)
        frame, place = read_file(files[name])
        known = KNOWN.get(name) or DataSet(name, "not known to nbllm", "your own file")
    frame = read_alike(one_split(frame, split, name), known)
    chosen = draw(frame, rows, seed)
    chosen.attrs["source"] = (
        f"{name}: {len(chosen):,} of {counted(len(frame), 'row')} from {place}; "
        f"licence: {known.licence}; origin: {known.origin}"
    )
    say(chosen.attrs["source"])
    return chosen


def local_files() -> dict[str, Path]:
    """Every data set on this machine by name; the user's own folder before the shipped sets."""
    files = {path.stem: path for path in sorted(SHIPPED_FOLDER.glob("*.jsonl"))}
    folder = own_folder()
    if folder is not None:
        # A file nearer to the top wins over one of the same name further down.
        deepest_first = sorted(
            folder.rglob("*.parquet"), key=lambda path: (len(path.parts), path), reverse=True
        )
        files |= {path.stem: path for path in deepest_first}
    return files


def own_folder() -> Path | None:
    """The folder that NBLLM_DATA names; an error if it is not there."""
    value = os.environ.get("NBLLM_DATA")
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"NBLLM_DATA names {value!r}, which is not a folder. "
            "Set it to a folder of Parquet files, or unset it."
        )
    return folder


def read_file(path: Path) -> tuple[pd.DataFrame, str]:
    """The frame in a file, and where that is in words that tell nothing of the machine."""
    import pandas as pd

    if path.parent == SHIPPED_FOLDER:
        return pd.read_json(path, lines=True), "the sets that come with nbllm"
    folder = own_folder()
    place = path.relative_to(folder).as_posix() if folder else path.name
    try:
        return pd.read_parquet(path), f"{place} in NBLLM_DATA"
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise DataError(f"{place} could not be read as Parquet: {error}") from error


def read_hub(path: str, split: str | None) -> tuple[pd.DataFrame, str]:
    """A data set of the hub, all splits stacked, with `split` naming each row's own."""
    import pandas as pd

    owner_name, _, configuration = path.partition("/")
    repository, _, configuration = configuration.partition("/")
    if not owner_name or not repository:
        raise DataError(f"{HUB}{path} is not a data set of the hub: write {HUB}owner/name.")
    repository = f"{owner_name}/{repository}"
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise DataError(
            f"{HUB}{path} needs the package datasets: pip install datasets, then load again."
        ) from error
    try:
        # Only the split that was asked for is downloaded.
        found = load_dataset(repository, configuration or None, split=split)
    except Exception as error:  # datasets raises a dozen kinds, of its own and of the hub's
        raise DataError(
            f"{HUB}{path} could not be loaded: {error} "
            "Check the name at https://huggingface.co/datasets and the connection."
        ) from error
    parts = {split: found} if split is not None else dict(found)
    frame = pd.concat(
        [part.to_pandas().assign(split=key) for key, part in parts.items()], ignore_index=True
    )
    frame.attrs["licence"] = next(iter(parts.values())).info.license or "none stated"
    return frame, repository


def one_split(frame: pd.DataFrame, split: str | None, name: str) -> pd.DataFrame:
    """The rows of one split, or all rows if none was named."""
    if split is None:
        return frame
    splits = sorted(frame["split"].unique()) if "split" in frame else []
    if split not in splits:
        has = f"it has {', '.join(splits)}" if splits else "it has no splits"
        raise DataError(f"{name} has no split {split!r}: {has}.")
    return frame[frame["split"] == split]


def read_alike(frame: pd.DataFrame, known: DataSet) -> pd.DataFrame:
    """The frame with the column names and labels that sets of its kind share here."""
    frame = frame.rename(columns=dict(known.columns))
    if known.labels and "label" in frame:
        # A value that is no code of the origin stays: the file may be the user's own version.
        frame["label"] = frame["label"].map(lambda code: known.labels.get(code, code))
    return frame


def draw(frame: pd.DataFrame, rows: int | None, seed: int) -> pd.DataFrame:
    """`rows` rows at random in their old order, or all if there are no more than that."""
    if rows is None or rows >= len(frame):
        return frame
    return frame.sample(n=rows, random_state=seed).sort_index()


def not_here(name: str, files: dict[str, Path]) -> str:
    """What to say of a data set that is not on this machine: the nearest, and the ways to it."""
    near = get_close_matches(name, files, n=3, cutoff=0.5)
    nearest = f" Did you mean {' or '.join(near)}?" if near else ""
    origin = f" ({KNOWN[name].origin})" if name in KNOWN else ""
    return (
        f"No data set {name!r}{origin} on this machine.{nearest} "
        f"Here are: {', '.join(sorted(files))}. "
        "For more, put Parquet files into a folder and set NBLLM_DATA to it, "
        f"or name one of the hub: nbllm.data.load('{HUB}owner/name')."
    )
