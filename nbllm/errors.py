"""Every exception that nbllm raises on purpose.

    NbllmError
    ├── ModelError
    │   ├── UnknownModelError      no such name, folder or hub repository
    │   ├── DownloadError          the network, the index or the disk failed
    │   │   └── HashMismatchError  what arrived is not what was published
    │   ├── LicenceError           its licence has to be accepted first
    │   ├── QuantizationError      no kernel here for what was asked
    │   ├── TooLargeError          it does not fit in the memory that is there
    │   └── UnsupportedModelError  the model cannot do this job
    ├── FrameError
    │   ├── ColumnError            a column is missing, not text, or in the way
    │   ├── LabelError             labels are empty, repeated or unknown
    │   └── ProvenanceError        a row whose run is not on record
    ├── TextError                  a text that no model can read
    │   └── TextTooLongError       it does not fit the context
    ├── DataError                  a data set that is not here
    ├── LedgerError                the file of answers is damaged, or another program's
    ├── TrainingError              a training run that cannot start, or cannot go on
    ├── SelectionError             a layer, head or token out of range
    ├── ActivityError              a job that cannot be asked to stop
    │   └── UnknownJobError        no job of that id
    └── GalleryError               no curated notebook of that name, or no room for a copy

Each message says what happened and, after it, what to do.
"""

__all__ = [
    "ActivityError",
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


class ModelError(NbllmError):
    """A model could not be found, fetched, loaded or used."""


class UnknownModelError(ModelError):
    """Nothing by that name: not in the catalog, on disk or on the hub."""


class DownloadError(ModelError):
    """A download did not complete."""


class HashMismatchError(DownloadError):
    """A downloaded file differs from the one that was published; it was removed."""


class LicenceError(ModelError):
    """The model's licence asks to be accepted, and nobody has; nothing was fetched."""


class QuantizationError(ModelError):
    """The quantization asked for cannot run on this device."""


class TooLargeError(ModelError):
    """The model does not fit in the memory of the device; nothing was read."""


class UnsupportedModelError(ModelError):
    """The model is of a kind that cannot do what was asked."""


class FrameError(NbllmError):
    """A verb was given a frame that it cannot work on."""


class ColumnError(FrameError):
    """A column is missing, is not text, or would be overwritten."""


class LabelError(FrameError):
    """A set of labels is empty, repeated or does not fit the task."""


class ProvenanceError(FrameError):
    """A row cannot be traced to the run that answered it."""


class TextError(NbllmError):
    """A text that no model can read: empty, or not valid Unicode."""


class TextTooLongError(TextError):
    """A text that does not fit the model's context."""


class DataError(NbllmError):
    """A data set is unknown or not on this machine."""


class TrainingError(NbllmError):
    """A training run cannot start, or cannot go on; what it had saved is still there."""


class LedgerError(NbllmError):
    """The file of answers is damaged, or another program's; it was left as it is."""


class SelectionError(NbllmError):
    """A layer, head or token outside of the recording."""


class ActivityError(NbllmError):
    """A job cannot be asked to stop: it has ended, or the disk refuses."""


class UnknownJobError(ActivityError):
    """There is no job of that id."""


class GalleryError(NbllmError):
    """A curated notebook is unknown, or its copy cannot be written."""
