"""Students by name: a preset, or a tower told by its block, widths and frame step.

edge-m                                  a preset
pairs:32-64-128-256                     3x3 convolutions, two a block (Arandjelovic & Zisserman 2017)
strided:32-64-128-256                   as above, but the first block is one convolution with a stride of two
separable:32-64-128-256                 the first block as above, in the others each 3x3 is a depthwise and a 1x1
                                        convolution (Howard et al. 2017)
mobilenet:32-64-128-128-256-256-512     MobileNet's stack as YAMNet has it: a strided convolution, then a depthwise and
                                        a 1x1 one for each width; can begin with YAMNet's own weights (--inherit)
...,time=6,halvings=4                   of mobilenet: so many blocks look at several columns (else 7), and time is
                                        halved so often (else 3 times)
...,window=3                            of mobilenet: so many blocks, the last, look at all columns of a window at once,
                                        as YAMNet's do, and are computed anew for each window
...,step=100                            frames every 100 samples (6.25 ms) instead of 200
...,size=512                            a 1x1 convolution at the end, to an embedding of 512 values
...,pool=mean                           over frequency, instead of the maximum
...,pool=mean+time                      over frequency and over the columns of a window
...,dense=2                             of separable: so many blocks of whole convolutions
"""

from __future__ import annotations

import dataclasses

from l3edge.errors import OptionError
from l3edge.layers import Conv, Layer, Pool, l3_stack, mobilenet_stack, mobilenet_window, separable_stack, strided_stack
from l3edge.spec import PRESETS, Spec

from .cli import TrainingError

BLOCKS = {"pairs": l3_stack, "strided": strided_stack, "separable": separable_stack, "mobilenet": mobilenet_stack}
_OF_BLOCK = {
    "dense": "separable",
    "time": "mobilenet",
    "halvings": "mobilenet",
    "window": "mobilenet",
}
_KINDS = {"step": int, "size": int, "dense": int, "time": int, "halvings": int, "window": int, "pool": str}


def student(name: str) -> Spec:
    """The spec of a name, as the module says; TrainingError where there is none such."""
    if name in PRESETS:
        return PRESETS[name]
    block, _, rest = name.partition(":")
    widths, *options = rest.split(",")
    try:
        filters = tuple(int(width) for width in widths.split("-"))
        said = {key: _KINDS[key](value) for key, value in (option.split("=") for option in options)}
        own = {key: int(said[key]) for key in _OF_BLOCK if key in said}
        if block not in BLOCKS or any(_OF_BLOCK[key] != block for key in own):
            raise KeyError(block)
        whole = own.pop("window", 0)
        if not 0 <= whole < len(filters):
            raise KeyError("window")
        streamed = len(filters) - whole
        rows: tuple[Layer, ...] = BLOCKS[block](filters[:streamed], **own)
        window = mobilenet_window(filters[streamed:], filters[streamed - 1]) if whole else ()
        front = dataclasses.replace(PRESETS["edge-m"].front_end, frame_step=int(said.get("step", 200)))

        def spec(*more: Layer) -> Spec:
            """With further rows at the end."""
            made = dataclasses.replace(PRESETS["edge-m"], name=name, layers=rows, front_end=front)
            if not window:
                return dataclasses.replace(made, layers=(*rows, *more))
            return dataclasses.replace(made, window_layers=(*window, *more))

        more: list[Layer] = (
            [Conv(int(said["size"]), (1, 1), padding="same" if window else "valid")] if "size" in said else []
        )
        pool = str(said.get("pool", "maximum"))
        if pool != "maximum":
            kind, _, over = pool.partition("+")
            made = spec(*more)
            time, bins, _ = made.shapes(made.frames)[-1]
            if over not in ("", "time"):
                raise KeyError(pool)
            more.append(Pool((time if over else 1, bins), (1, bins), kind=kind))
        return spec(*more)
    except (KeyError, ValueError, OptionError) as error:
        why = f": {error}" if isinstance(error, OptionError) else ""
        raise TrainingError(
            f"no student {name!r}{why}; one is a preset ({', '.join(PRESETS)}), or such as pairs:32-64-128-256 or "
            f"separable:32-64-128-256,step=100,size=512,pool=mean"
        ) from error
