"""Every error and warning that l3edge raises on purpose.

    Error
    ├── AudioError (also ValueError)        shape, length or content of audio; a file that cannot be read
    │   └── AudioTypeError (also TypeError) a dtype or type that is not audio
    ├── OptionError (also ValueError)       an impossible sample rate, hop, engine name, ...
    ├── StreamError (also RuntimeError)     a stream used out of order
    ├── ModelError (also ValueError)        a model that cannot be used
    │   ├── UnknownModelError               no built-in model and no file of that name
    │   └── ModelFileError                  a file that is not an l3edge model, is newer, or contradicts itself
    ├── HeadError (also ValueError)         a file that is not a head, contradicts itself, or is another model's
    ├── EngineError (also RuntimeError)     no usable TFLite engine, or a delegate that does not load
    ├── MicrophoneError (also RuntimeError) no such device, or one that cannot be opened
    ├── InUseError (also RuntimeError)      another process has what only one can have
    └── BehindError (also RuntimeError)     computing falls behind the sound, and shall not

    AudioWarning (UserWarning)              audio was altered, or must be a mistake
    MicrophoneWarning (UserWarning)         a microphone went away, or is back

Each message says what was wrong, what was expected, and what to do.
"""

from __future__ import annotations


class Error(Exception):
    """Base of all l3edge errors."""


class AudioError(Error, ValueError):
    """Audio of an impossible shape, or an audio file that cannot be read."""


class AudioTypeError(AudioError, TypeError):
    """Audio of a dtype or type that has no defined meaning."""


class OptionError(Error, ValueError):
    """An argument outside its range: sample rate, hop, threads, engine name."""


class StreamError(Error, RuntimeError):
    """A stream used out of order, such as `push` after `flush`."""


class ModelError(Error, ValueError):
    """A model that cannot be used."""


class UnknownModelError(ModelError):
    """Neither a built-in model nor an existing file."""


class ModelFileError(ModelError):
    """Not an l3edge model file, one of a newer format, or one that contradicts itself."""


class HeadError(Error, ValueError):
    """Not a head file, one that contradicts itself, or one that was learned with another model."""


class EngineError(Error, RuntimeError):
    """No usable TFLite engine, or an engine or delegate that refuses to load."""


class MicrophoneError(Error, RuntimeError):
    """A microphone that does not exist or cannot be opened."""


class InUseError(Error, RuntimeError):
    """Another process has the microphone, or the folder."""


class BehindError(Error, RuntimeError):
    """Computing fell further behind the sound than was allowed."""


class AudioWarning(UserWarning):
    """Audio was altered (non-finite samples became zero), or is at a level that must be a mistake."""


class MicrophoneWarning(UserWarning):
    """A microphone went away and is being looked for, or is back."""
