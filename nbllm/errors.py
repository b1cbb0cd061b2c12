"""Every exception that nbllm raises on purpose.

In brackets is the exception of Python's own that each is too, so that `except KeyError` catches
a missing column as it would in pandas.

    NbllmError
    ├── ModelError
    │   ├── UnknownModelError      no such name, folder or hub repository (LookupError)
    │   ├── DownloadError          the network, the index or the disk failed (OSError)
    │   │   └── HashMismatchError  what arrived is not what was published
    │   ├── LicenceError           its licence has to be accepted first (PermissionError)
    │   ├── QuantizationError      no kernel here for the quantization (ValueError)
    │   ├── TooLargeError          it does not fit in the memory that is there (MemoryError)
    │   └── UnsupportedModelError  the model cannot do this job (NotImplementedError)
    ├── ArgumentError              a value that a function cannot take (ValueError, TypeError)
    │   ├── FrameError             a frame, or an argument, that a verb cannot work on
    │   │   ├── ColumnError        a column is missing, not text, or in the way (KeyError)
    │   │   ├── LabelError         labels are empty, repeated or unknown
    │   │   └── ProvenanceError    a row whose run is not on record (LookupError)
    │   └── SelectionError         a layer, head or token out of range (IndexError)
    ├── TextError                  a text that no model can read (ValueError)
    │   └── TextTooLongError       it does not fit the context
    ├── DataError                  a data set that is not here (LookupError)
    ├── LedgerError                the file of answers is damaged, or another program's
    ├── TrainingError              a training run cannot start, or cannot go on (RuntimeError)
    ├── ActivityError              a job that cannot be cancelled (RuntimeError)
    │   └── UnknownJobError        no job of that id (LookupError)
    └── GalleryError               no curated notebook of that name, or no room (OSError)

Each message says what happened and, after it, what to do.
"""

from nbllm.escaping import visible

__all__ = [
    "ActivityError",
    "ArgumentError",
    "ColumnError",
    "DataError",
    "DownloadError",
    "FrameError",
    "GalleryError",
    "HashMismatchError",
    "LabelError",
    "LedgerError",
    "LicenceError",
    "ModelError",
    "NbllmError",
    "ProvenanceError",
    "QuantizationError",
    "SelectionError",
    "TextError",
    "TextTooLongError",
    "TooLargeError",
    "TrainingError",
    "UnknownJobError",
    "UnknownModelError",
    "UnsupportedModelError",
]


class NbllmError(Exception):
    """Base of all of nbllm's own exceptions."""

    def __str__(self) -> str:
        # KeyError would put its message in quotes; a terminal would obey what it quotes.
        return visible(Exception.__str__(self))


class ModelError(NbllmError):
    """A model could not be found, fetched, loaded or used."""


class UnknownModelError(ModelError, LookupError):
    """Nothing by that name: not in the catalog, on disk or on the hub."""


class DownloadError(ModelError, OSError):
    """A download did not complete."""


class HashMismatchError(DownloadError):
    """A downloaded file differs from the one that was published; it was removed."""


class LicenceError(ModelError, PermissionError):
    """The model's licence has to be accepted first, and nothing was fetched."""


class QuantizationError(ModelError, ValueError):
    """The chosen quantization cannot run on this device."""


class TooLargeError(ModelError, MemoryError):
    """The model does not fit in the memory of the device; nothing was read."""


class UnsupportedModelError(ModelError, NotImplementedError):
    """The model is of a kind that cannot do this job."""


class ArgumentError(NbllmError, ValueError, TypeError):
    """A function was given a value that it cannot take: of another type, or out of range."""


class FrameError(ArgumentError):
    """A verb was given a frame, or an argument, that it cannot work on."""


class ColumnError(FrameError, KeyError):
    """A column is missing, is not text, or would be overwritten."""


class LabelError(FrameError):
    """A set of labels is empty, repeated or does not fit the task."""


class ProvenanceError(FrameError, LookupError):
    """A row cannot be traced to the run that answered it."""


class TextError(NbllmError, ValueError):
    """A text that no model can read: empty, or not valid Unicode."""


class TextTooLongError(TextError):
    """A text that does not fit the model's context."""


class DataError(NbllmError, LookupError):
    """A data set is unknown or not on this machine."""


class TrainingError(NbllmError, RuntimeError):
    """A training run cannot start, or cannot go on; what it had saved is still there."""


class LedgerError(NbllmError):
    """The file of answers is damaged, or another program's; it was left as it is."""


class SelectionError(ArgumentError, IndexError):
    """A layer, head or token outside of the recording."""


class ActivityError(NbllmError, RuntimeError):
    """A job cannot be cancelled: it has ended, or the disk refuses."""


class UnknownJobError(ActivityError, LookupError):
    """There is no job of that id."""


class GalleryError(NbllmError, OSError):
    """A curated notebook is unknown, or its copy cannot be written."""
