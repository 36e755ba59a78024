"""Building blocks of the synthetic pictures: a pen with its own coordinates, colours, motion, and cluttered
backgrounds.

A thing is drawn in its own unit coordinates (x to the right, y downwards, about -1 to 1) with a `Pen`, which
places, turns, mirrors and scales it. Colours are drawn at random per take: only shape, texture and motion
tell the kind.
"""

import bisect
import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Points = Sequence[tuple[float, float]] | NDArray[np.float64]

_CIRCLE = np.stack([f(np.linspace(0, 2 * np.pi, 28, endpoint=False)) for f in (np.cos, np.sin)], axis=1)
OVERSAMPLING = 2  # the scene is drawn this many times larger than the video, for smooth edges


@dataclass(frozen=True)
class Ink:
    """The colours of one take's thing: body, shadow, highlight, a second hue, the line around it."""

    main: Colour
    dark: Colour
    light: Colour
    accent: Colour
    line: Colour


def colour(hue: float, saturation: float, lightness: float) -> Colour:
    """HLS, each 0 to 1 (hue wraps), as 8-bit RGB."""
    red, green, blue = colorsys.hls_to_rgb(hue % 1, float(np.clip(lightness, 0, 1)), saturation)
    return round(255 * red), round(255 * green), round(255 * blue)


def random_ink(rng: np.random.Generator, lightness: float) -> Ink:
    """Any hue, around the given lightness; the accent is of a distant hue and the opposite lightness."""
    hue, saturation = rng.uniform(), rng.uniform(0.05, 0.95)
    other = 0.8 if lightness < 0.5 else 0.3
    return Ink(
        main=colour(hue, saturation, lightness),
        dark=colour(hue, saturation, lightness - 0.2),
        light=colour(hue, 0.7 * saturation, lightness + 0.22),
        accent=colour(hue + rng.uniform(0.25, 0.75), rng.uniform(0.3, 0.95), other),
        line=colour(hue, 0.3, 0.06 if lightness > 0.3 else 0.93),
    )


class Motion:
    """What the sound tells the picture: when it was struck, and how loud it is. Times in seconds."""

    def __init__(self, strikes: Sequence[float], samples: ArrayLike, rate: int) -> None:
        self._strikes = list(strikes)
        block = rate // 50
        power = np.square(np.asarray(samples, np.float64))
        rms = np.sqrt(np.add.reduceat(power, np.arange(0, len(power), block)) / block)
        self._level = np.minimum(1, rms / max(float(np.percentile(rms, 95)), 1e-9))

    def count(self, t: float) -> int:
        """How many strikes there were up to `t`."""
        return bisect.bisect_right(self._strikes, t)

    def hit(self, t: float, fade: float = 0.15) -> float:
        """1 at a strike, falling with time constant `fade`."""
        k = self.count(t)
        return float(np.exp((self._strikes[k - 1] - t) / fade)) if k else 0.0

    def phase(self, t: float) -> float:
        """How far `t` is on the way from the last strike (0) to the next (1)."""
        k = self.count(t)
        before = self._strikes[k - 1] if k else -0.3
        after = self._strikes[k] if k < len(self._strikes) else before + 0.5
        return min(1.0, (t - before) / max(after - before, 1e-3))

    def lift(self, t: float) -> float:
        """How far a hammer is raised: 0 at each strike, 1 half-way to the next."""
        return float(np.sin(np.pi * self.phase(t)))

    def level(self, t: float) -> float:
        """Loudness around `t`, 0 to 1."""
        return float(self._level[min(len(self._level) - 1, max(0, int(t * 50)))])


class Pen:
    """Draws in its own coordinates; `moved` gives a pen for a part that shifts, turns or grows."""

    def __init__(self, image: Image.Image, matrix: NDArray[np.float64]) -> None:
        """`matrix` [2, 3] maps (x, y, 1) in the pen's coordinates to pixels."""
        self._draw = ImageDraw.Draw(image)
        self._matrix = matrix
        self._scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))

    def moved(self, dx: float = 0, dy: float = 0, turn: float = 0, scale: float = 1) -> "Pen":
        """A pen with its origin at (dx, dy) of this one, turned by `turn` radians, `scale` times as large."""
        part = object.__new__(Pen)
        part._draw = self._draw
        part._matrix = self._matrix @ placement(dx, dy, turn, scale)
        part._scale = self._scale * scale
        return part

    def _pixels(self, points: Points) -> list[float]:
        return (np.asarray(points, float) @ self._matrix[:, :2].T + self._matrix[:, 2]).ravel().tolist()

    def poly(self, points: Points, fill: Colour, line: Colour | None = None, width: float = 0.05) -> None:
        xy = self._pixels(points)
        self._draw.polygon(xy, fill=fill)
        if line is not None:
            self._draw.line(xy + xy[:4], fill=line, width=max(1, round(width * self._scale)), joint="curve")

    def line(self, points: Points, fill: Colour, width: float = 0.06) -> None:
        self._draw.line(self._pixels(points), fill=fill, width=max(1, round(width * self._scale)), joint="curve")

    def disc(
        self, x: float, y: float, rx: float, fill: Colour, ry: float | None = None, line: Colour | None = None
    ) -> None:
        self.poly(_CIRCLE * (rx, rx if ry is None else ry) + (x, y), fill, line)

    def ring(self, x: float, y: float, rx: float, fill: Colour, width: float = 0.06, ry: float | None = None) -> None:
        points = _CIRCLE * (rx, rx if ry is None else ry) + (x, y)
        self.line(np.concatenate([points, points[:2]]), fill, width)

    def arc(self, x: float, y: float, r: float, start: float, end: float, fill: Colour, width: float = 0.06) -> None:
        """Part of a circle, from `start` to `end` in radians, clockwise from the right."""
        angle = np.linspace(start, end, 14)
        self.line(np.stack([x + r * np.cos(angle), y + r * np.sin(angle)], axis=1), fill, width)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour, line: Colour | None = None) -> None:
        self.poly([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill, line)


Paint = Callable[[Pen, float], None]  # draws the thing as it is at a time, in seconds
Look = Callable[[np.random.Generator, Ink, Motion], Paint]


def placement(dx: float, dy: float, turn: float, scale: float, mirror: bool = False, stretch: float = 1.0) -> NDArray:
    """The [3, 3] matrix that stretches sideways, mirrors, scales, turns and then shifts."""
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    wide = -stretch if mirror else stretch
    return np.array([[cos * wide, -sin, dx], [sin * wide, cos, dy], [0, 0, 1]])


def _texture(rng: np.random.Generator, side: int) -> NDArray[np.float64]:
    """A pattern [side, side] in about -1 to 1: a slope, stripes, checks or blotches."""
    y, x = np.mgrid[0:side, 0:side] / side
    angle, cells = rng.uniform(0, np.pi), rng.uniform(3, 14)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    which = rng.integers(4)
    if which == 0:
        return 2 * u - 1
    if which == 1:
        return np.sign(np.sin(2 * np.pi * cells * u)) * 0.5
    if which == 2:
        return np.sign(np.sin(2 * np.pi * cells * u) * np.sin(2 * np.pi * cells * v)) * 0.5
    coarse = Image.fromarray(rng.uniform(-1, 1, (int(cells) + 3,) * 2).astype(np.float32))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), float)


def background(rng: np.random.Generator, side: int, lightness: float) -> Image.Image:
    """A square picture without a subject: two colours mixed by textures, and a few shapes of clutter."""
    hue = rng.uniform()
    ends = [
        np.array(colour(hue + rng.uniform(-0.2, 0.2), rng.uniform(0, 0.8), lightness + shift))
        for shift in rng.uniform(0.03, 0.14) * np.array([-1, 1])
    ]
    mix = np.clip(0.5 + 0.5 * (_texture(rng, side) + 0.6 * _texture(rng, side)), 0, 1)[..., None]
    image = Image.fromarray((ends[0] * (1 - mix) + ends[1] * mix).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(2, 13)):
        x, y = rng.uniform(0, side, 2)
        w, h = side * np.exp(rng.uniform(np.log(0.02), np.log(0.2), 2))
        fill = colour(hue + rng.uniform(-0.5, 0.5), rng.uniform(0, 0.8), lightness + rng.uniform(-0.16, 0.16))
        shape = rng.integers(4)
        if shape == 0:
            draw.rectangle((x - w, y - h, x + w, y + h), fill=fill)
        elif shape == 1:
            draw.ellipse((x - w, y - h, x + w, y + h), fill=fill)
        elif shape == 2:
            draw.polygon([(x + sx * w, y + sy * h) for sx, sy in rng.uniform(-1, 1, (4, 2))], fill=fill)
        else:
            draw.line((x, y, x + 4 * rng.choice([-1, 1]) * w, y + 4 * h), fill=fill, width=max(1, side // 80))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, side / 90)))


@dataclass(frozen=True)
class Scene:
    """One take's picture: a thing in front of a background, both drifting as before a hand-held camera."""

    thing: Paint
    backdrop: Image.Image
    size: int
    pose: tuple[float, float, float, float, bool, float]  # x, y [of the picture], turn, scale, mirrored, stretch
    drift: tuple[float, float, float]  # amplitude [of the picture], cycles a second, phase

    def frame(self, t: float) -> NDArray[np.uint8]:
        """The picture at `t` seconds, [size, size, 3] RGB."""
        side = self.size * OVERSAMPLING
        reach, pace, phase = self.drift
        sway = reach * side * np.array([np.sin(2 * np.pi * pace * t + phase), np.cos(1.7 * np.pi * pace * t + phase)])
        margin = (self.backdrop.width - side) / 2
        left, top = (round(margin - s) for s in sway)
        image = self.backdrop.crop((left, top, left + side, top + side))
        x, y, turn, scale, mirror, stretch = self.pose
        matrix = placement(x * side + 1.6 * sway[0], y * side + 1.6 * sway[1], turn, scale * side, mirror, stretch)
        self.thing(Pen(image, matrix[:2]), t)
        return np.asarray(image.reduce(OVERSAMPLING))


def compose(look: Look, motion: Motion, rng: np.random.Generator, size: int) -> Scene:
    """A scene of `look` at a random place, size, angle and colour; it stands out in lightness."""
    ground = rng.uniform(0.12, 0.88)
    contrast = rng.uniform(0.28, 0.42)
    lightness = float(np.clip(ground + contrast if ground < 0.5 else ground - contrast, 0.2, 0.85))
    reach = rng.uniform(0, 0.03)
    side = size * OVERSAMPLING
    scale = rng.uniform(0.3, 0.46)
    return Scene(
        thing=look(rng, random_ink(rng, lightness), motion),
        backdrop=background(rng, round(side * (1 + 2 * reach)) + 2, ground),
        size=size,
        pose=(
            float(rng.uniform(scale, 1 - scale)),
            float(rng.uniform(scale, 1 - scale)),
            float(rng.normal(0, 0.1)),
            scale,
            bool(rng.integers(2)),
            float(rng.uniform(0.85, 1.15)),
        ),
        drift=(reach, float(rng.uniform(0.1, 0.5)), float(rng.uniform(0, 2 * np.pi))),
    )
