"""Exact streaming audio embeddings on cheap hardware.

    model = l3edge.load()
    embeddings, times = model.embed(audio, sample_rate)

Every 0.1 s of a stream gives the embedding of the last second, bit for bit the one that second gives by itself.
"""

from typing import TYPE_CHECKING, Any

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
from .model import Model, load, models
from .spec import Spec
from .stream import Stream

if TYPE_CHECKING:
    from .capture import SteadyMicrophone
    from .microphone import Microphone


def __getattr__(name: str) -> Any:
    """When somebody asks for it, what not all need, and takes its time to import: the microphones, __version__."""
    if name == "Microphone":
        from .microphone import Microphone

        return Microphone
    if name == "SteadyMicrophone":
        from .capture import SteadyMicrophone

        return SteadyMicrophone
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("l3edge")
        except PackageNotFoundError:  # run from a checkout that was never installed
            return "0+checkout"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
