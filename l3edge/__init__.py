"""Exact streaming audio embeddings on cheap hardware.

    model = l3edge.load()
    embeddings, times = model.embed(audio, sample_rate)

Every 0.1 s of a stream gives the embedding of the last second, bit for bit the one that second gives by itself.
"""

from importlib.metadata import PackageNotFoundError, version

from .capture import SteadyMicrophone
from .errors import (
    AudioError,
    AudioTypeError,
    AudioWarning,
    BehindError,
    EngineError,
    Error,
    HeadError,
    InUseError,
    MicrophoneError,
    MicrophoneWarning,
    ModelError,
    ModelFileError,
    OptionError,
    StreamError,
    UnknownModelError,
)
from .microphone import Microphone
from .model import Model, load, models
from .spec import Spec
from .stream import Stream

try:
    __version__ = version("l3edge")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+checkout"

__all__ = [
    "AudioError",
    "AudioTypeError",
    "AudioWarning",
    "BehindError",
    "EngineError",
    "Error",
    "HeadError",
    "InUseError",
    "Microphone",
    "MicrophoneError",
    "MicrophoneWarning",
    "Model",
    "ModelError",
    "ModelFileError",
    "OptionError",
    "Spec",
    "SteadyMicrophone",
    "Stream",
    "StreamError",
    "UnknownModelError",
    "__version__",
    "load",
    "models",
]
