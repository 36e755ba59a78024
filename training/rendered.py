"""Speech by espeak-ng and music by fluidsynth: programs of the system, run as child processes where they are there.

What they say and play is drawn from a seed and a number: the same words and notes everywhere, and the same sound where
the programs, their voices and the sound font are the same.
"""

from __future__ import annotations

import functools
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from l3edge import audio

from .cli import TrainingError

SPEAKER = "espeak-ng"
PLAYER = "fluidsynth"
FONTS = ("/usr/share/sounds/sf2/FluidR3_GM.sf2", "/usr/share/soundfonts/FluidR3_GM.sf2")

_TIMEOUT = 60.0  # s; both take a fraction of one
_RATE = 32_000  # Hz, at which music is rendered: above 16 kHz, so that nothing of it aliases there

_LANGUAGES = (
    "af bg bn ca cs cy da de el en-029 en-gb en-gb-scotland en-gb-x-rp en-us en-us en-us eo es es-419 et eu fa fi fr- "
    "fr ga hi hr hu id is it ka kk ko lt lv mk ms nb ne nl pa pl pt pt-br ro ru sk sl sq sr sv sw ta te tr uk ur vi"
)
_VARIANTS = ("", "+m1", "+m2", "+m3", "+m4", "+m5", "+m7", "+f1", "+f2", "+f3", "+f4", "+f5", "+croak", "+whisper")
_WORDS = (
    "about above after again air all also always animal answer any apple ask autumn away back bad bag ball bank bed "
    "before begin below best better between big bird black blue boat body book both bottle box boy bread bridge bring "
    "brother brown build bus busy but butter buy call can car carry cat chair change child city clean clear clock "
    "close cloud coat coffee cold colour come cook corner cost country cow cup cut dark daughter day deep different "
    "dinner do doctor dog door down draw dream drink drive dry ear early earth east easy eat egg eight empty end "
    "engine enough evening ever every eye face fall family far farm fast father feel few field find fine finger fire "
    "first fish five floor flower fly follow food foot for four free fresh friend from fruit full garden girl give "
    "glass go gold good grass great green ground grow hair half hand happy hard have head hear heart heavy help here "
    "high hill hold home horse hot hour house how hundred ice idea if island job journey jump keep key kind kitchen "
    "know lake land language large last late laugh learn leave left letter life light like line listen little live "
    "long look loud love low lunch machine make man many map market may meat meet milk mind minute money month moon "
    "more morning mother mountain mouth move much music name near new news next nice night nine no noise north nose "
    "nothing now number off office often oil old on one open or orange other our out over page paper park part pay "
    "people perhaps person piece place plane plant play please point poor question quick quiet rain read ready red "
    "remember rest rice right ring river road room round run sad salt same school sea season second see seven shall "
    "ship shoe shop short show side sing sister six sky sleep slow small smile snow some son song soon south speak "
    "spring stand star start station stay stone stop story street strong sugar summer sun sweet swim table take talk "
    "tall tea tell ten thank there thing think three time tired today together tomorrow town train tree true turn two "
    "uncle under until up very village visit voice wait walk wall want warm wash watch water way weather week west "
    "wet what wheel when where white who why wide wind window winter with woman wood word work world write year "
    "yellow yes young zero"
)

_LAZY = ("-o", "synth.dynamic-sample-loading=1")  # reads those parts of the sound font that are played

_MAJOR, _MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
_DRUMS = (36, 38, 42, 46, 49, 51, 45, 48, 39, 54, 56, 70, 75)  # keys of the General MIDI drum kit
_DRUM_CHANNEL = 9
_TICKS = 480  # a half second, at the tempo that files have without saying so


def missing(program: str) -> str:
    """What to install before `program` can render; empty where nothing is missing."""
    if not shutil.which(program):
        packages = {SPEAKER: "espeak-ng", PLAYER: "fluidsynth fluid-soundfont-gm"}[program]
        return f"the program {program} is not there: on Debian, apt install {packages}"
    if program == PLAYER and font() is None:
        return f"there is no sound font at {' or '.join(FONTS)}: on Debian, apt install fluid-soundfont-gm"
    return ""


def font() -> Path | None:
    """The General MIDI sound font, if it is installed."""
    return next((path for path in map(Path, FONTS) if path.is_file()), None)


@functools.lru_cache
def version(program: str) -> str:
    """What a program says of itself, its first line."""
    try:
        run = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({error})"
    return (run.stdout or run.stderr).split("  ")[0].strip().split("\n")[0]


def language(seed: int, number: int) -> str:
    """The language whose rules utterance `number` is spoken by."""
    return str(np.random.default_rng([seed, number]).choice(_LANGUAGES.split()))


def speech(seed: int, number: int, rate: int) -> NDArray[np.float32]:
    """Utterance `number`: some seconds of common words and digits in a voice of its own, float32 [n] at `rate` Hz.

    Raises TrainingError where espeak-ng fails.
    """
    rng = np.random.default_rng([seed, number])
    voice = str(rng.choice(_LANGUAGES.split())) + str(rng.choice(_VARIANTS))
    words = [str(word) for word in rng.choice(_WORDS.split(), rng.integers(10, 22))]
    for place in np.flatnonzero(rng.random(len(words)) < (1.0 if rng.random() < 0.15 else 0.1)):
        words[place] = str(rng.integers(10 ** rng.integers(1, 5)))
    for place in np.flatnonzero(rng.random(len(words)) < 0.15):
        words[place] += str(rng.choice([",", ".", "?", "!"]))
    speed, pitch = str(round(rng.uniform(110, 240))), str(round(rng.uniform(10, 90)))
    return _rendered([SPEAKER, "-v", voice, "-s", speed, "-p", pitch, "-w", "{out}", " ".join(words)], rate)


def music(seed: int, number: int, rate: int) -> NDArray[np.float32]:
    """Piece `number`, about 12 s, float32 [n] at `rate` Hz. Raises TrainingError where fluidsynth fails."""
    player = [PLAYER, "-q", "-n", "-i", "-g", "0.4", "-r", str(_RATE), "-O", "s16", "-T", "wav", "-F", "{out}", *_LAZY]
    return _rendered([*player, str(font()), "{midi}"], rate, compose(seed, number))


def _rendered(command: list[str], rate: int, midi: bytes = b"") -> NDArray[np.float32]:
    with tempfile.TemporaryDirectory(prefix="l3edge-") as scratch:
        out, notes = Path(scratch, "out.wav"), Path(scratch, "notes.mid")
        notes.write_bytes(midi)
        words = [word.format(out=out, midi=notes) for word in command]
        try:
            run = subprocess.run(
                words,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT,
                check=False,
                start_new_session=True,  # Ctrl-C ends us, and must not look like a failure of the program
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TrainingError(f"{command[0]} failed: {error}") from None
        if run.returncode or not out.exists():
            said = (run.stderr or run.stdout).strip().split("\n")[-1]
            raise TrainingError(f"{command[0]} failed with status {run.returncode}: {said}")
        samples, found = audio.read(out)
    return audio.resample(audio.to_mono(samples).samples, found, rate)


def style(number: int) -> str:
    """What piece `number` is: "solo", "ensemble" or "effects"; ensembles have drums, or are drums alone."""
    return ("solo", "ensemble", "solo", "ensemble", "solo", "effects", "solo", "ensemble")[number % 8]


def compose(seed: int, number: int, seconds: float = 12.0) -> bytes:
    """Piece `number` as a Standard MIDI File: random instruments, tempo and key, and melodies that repeat their rhythm.

    Over 256 pieces the solos play each of the General MIDI instruments (0 to 119) once or more; the effects are its
    sounds of no instrument, 120 to 127: breath, seashore, birds, telephone, helicopter, applause, gunshot.
    """
    rng = np.random.default_rng([seed, number])
    kind, notes = style(number), _Notes(rng, seconds)
    if kind == "solo":
        program = (number // 8 * 4 + (0, 0, 1, 1, 2, 2, 3)[number % 8]) * 67 % 120
        notes.part(0, program, int(rng.integers(40, 77)), chords=rng.random() < 0.35)
    elif kind == "effects":
        notes.part(0, 120 + number // 8 % 8, int(rng.integers(36, 84)), chords=False, slow=True)
    else:
        drums_alone = rng.random() < 0.2
        for channel in range(0 if drums_alone else rng.integers(2, 5)):
            notes.part(channel, int(rng.integers(120)), int(rng.integers(36, 72)), chords=channel == 0)
        if drums_alone or rng.random() < 0.6:
            notes.drums()
    return notes.file()


class _Notes:
    """The events of one piece, on a common beat and in a common key."""

    def __init__(self, rng: np.random.Generator, seconds: float) -> None:
        self._rng = rng
        self._seconds = seconds
        self._beat = 60 / rng.uniform(60, 180)  # s
        self._scale = _MAJOR if rng.random() < 0.5 else _MINOR
        self._key = int(rng.integers(12))
        self._roots = [int(step) for step in rng.choice([0, 1, 3, 4, 5], 4)]  # degrees of four bars, again and again
        self._events: list[tuple[int, bytes]] = []

    def _add(self, time: float, *message: int) -> None:
        self._events.append((round(time * 2 * _TICKS), bytes(message)))

    def _note(self, channel: int, time: float, length: float, key: int, strength: float) -> None:
        key, velocity = int(np.clip(key, 0, 127)), int(np.clip(strength, 1, 127))
        self._add(time, 0x90 | channel, key, velocity)
        self._add(time + length, 0x80 | channel, key, 0)

    def _pitch(self, degree: int) -> int:
        octave, step = divmod(degree, 7)
        return 12 * octave + self._scale[step]

    def part(self, channel: int, program: int, lowest: int, chords: bool, slow: bool = False) -> None:
        """One instrument: a chord a bar, or a melody that walks the scale, leaps, rests, and repeats its rhythm."""
        rng = self._rng
        self._add(0, 0xC0 | channel, program)
        self._add(0, 0xB0 | channel, 10, int(rng.integers(128)))  # from the left or right
        base = lowest - lowest % 12 + self._key
        if slow:
            rhythm = rng.choice([2.0, 4.0, 8.0], 3)
        else:
            rhythm = rng.choice([4.0, 2.0], 3) if chords else rng.choice([0.25, 0.5, 0.5, 1.0, 1.0, 2.0], 8)
        strength, hold = rng.uniform(60, 115), rng.uniform(0.4, 1.1)
        beat, degree, count = 0.0, int(rng.integers(7)), 0
        while (time := beat * self._beat) < self._seconds:
            root, length = self._roots[int(beat // 4) % 4], float(rhythm[count % len(rhythm)])
            if chords:
                for step in (0, 2, 4):
                    key = base + self._pitch(root + step)
                    self._note(channel, time, hold * length * self._beat, key, strength + rng.normal(0, 6))
            elif slow or count == 0 or rng.random() < 0.88:
                degree = int(np.clip(degree + rng.choice([-4, -2, -1, -1, 0, 1, 1, 2, 4]), 0, 14))
                key = base + self._pitch(degree)
                self._note(channel, time, hold * length * self._beat, key, strength + rng.normal(0, 10))
            beat, count = beat + length, count + 1

    def drums(self) -> None:
        """A bar of 16 steps, again and again, on three to six drums."""
        rng = self._rng
        for key in rng.choice(_DRUMS, rng.integers(3, 7), replace=False):
            steps = np.flatnonzero(rng.random(16) < rng.uniform(0.1, 0.5))
            for bar in range(int(self._seconds / (4 * self._beat)) + 1):
                for step in steps:
                    time = (4 * bar + step / 4) * self._beat
                    if time < self._seconds:
                        self._note(_DRUM_CHANNEL, time, 0.1, int(key), rng.uniform(60, 120))

    def file(self) -> bytes:
        """A Standard MIDI File of one track."""
        track, now = bytearray(), 0
        for tick, message in sorted(self._events, key=lambda event: event[0]):
            track += _variable_length(tick - now) + message
            now = tick
        track += b"\x00\xff\x2f\x00"
        return struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, _TICKS, b"MTrk", len(track)) + bytes(track)


def _variable_length(number: int) -> bytes:
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(number & 0x7F | 0x80)
    return bytes(reversed(digits))
