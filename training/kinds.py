"""The kinds of source that synthetic videos show: a table of name, sound and look."""

from collections.abc import Callable
from dataclasses import dataclass

from training import (
    looks_machines,
    looks_nature,
    looks_played,
    looks_weather,
    sounds_machines,
    sounds_nature,
    sounds_played,
)
from training.drawing import Look
from training.synth import Audio, Synth


@dataclass(frozen=True)
class Kind:
    """One kind of source: its name, how it sounds, how it looks."""

    name: str
    sound: Callable[[Synth], Audio]
    look: Look


# The number of kinds and their order are part of what a seed means: a new row changes which take shows what.
_TABLE = (
    Kind("knock", sounds_played.knock, looks_played.knock),
    Kind("anvil", sounds_played.anvil, looks_played.anvil),
    Kind("glass", sounds_played.glass, looks_played.glass),
    Kind("drum", sounds_played.drum, looks_played.drum),
    Kind("guitar", sounds_played.guitar, looks_played.guitar),
    Kind("bell", sounds_played.bell, looks_played.bell),
    Kind("marimba", sounds_played.marimba, looks_played.marimba),
    Kind("violin", sounds_played.violin, looks_played.violin),
    Kind("flute", sounds_played.flute, looks_played.flute),
    Kind("engine", sounds_machines.engine, looks_machines.engine),
    Kind("motorbike", sounds_machines.motorbike, looks_machines.motorbike),
    Kind("helicopter", sounds_machines.helicopter, looks_machines.helicopter),
    Kind("chainsaw", sounds_machines.chainsaw, looks_machines.chainsaw),
    Kind("siren", sounds_machines.siren, looks_machines.siren),
    Kind("beeper", sounds_machines.beeper, looks_machines.beeper),
    Kind("telephone", sounds_machines.telephone, looks_machines.telephone),
    Kind("kettle", sounds_machines.kettle, looks_machines.kettle),
    Kind("clock", sounds_machines.clock, looks_machines.clock),
    Kind("typing", sounds_machines.typing, looks_machines.typing),
    Kind("bird", sounds_nature.bird, looks_nature.bird),
    Kind("cricket", sounds_nature.cricket, looks_nature.cricket),
    Kind("frog", sounds_nature.frog, looks_nature.frog),
    Kind("dog", sounds_nature.dog, looks_nature.dog),
    Kind("man", sounds_nature.man, looks_nature.man),
    Kind("woman", sounds_nature.woman, looks_nature.woman),
    Kind("baby", sounds_nature.baby, looks_nature.baby),
    Kind("footsteps", sounds_nature.footsteps, looks_nature.footsteps),
    Kind("rain", sounds_nature.rain, looks_weather.rain),
    Kind("wind", sounds_nature.wind, looks_weather.wind),
    Kind("surf", sounds_nature.surf, looks_weather.surf),
    Kind("bubbles", sounds_nature.bubbles, looks_weather.bubbles),
    Kind("fire", sounds_nature.fire, looks_weather.fire),
)
BY_NAME = {kind.name: kind for kind in _TABLE}
KINDS: tuple[str, ...] = tuple(BY_NAME)
