"""Makes a handful of videos that cannot teach anything, each in its own way: `python examples/bad_videos.py [FOLDER]`.

What `python -m training.prepare` does with them: it counts each under its verdict and goes on.
"""

import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE, FPS = 48_000, 10


def write(path: Path, seconds: float, moves: bool = True, volume: float | None = 0.3, picture: bool = True) -> None:
    """An MP4 of a bar over a tone; `volume=None`: without a sound track."""
    with av.open(str(path), "w") as container:
        streams = []
        if picture:
            video = container.add_stream("libx264", rate=FPS)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            streams.append(video)
        if volume is not None:
            audio = container.add_stream("aac", rate=RATE, layout="mono")
            streams.append(audio)
        for i in range(round(seconds * FPS) if picture else 0):
            image = np.zeros((48, 64, 3), np.uint8)
            image[:, 2 * (i % 30) if moves else 0 :][:, :4] = 255
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(video.encode(frame))
        for begin in range(0, round(seconds * RATE) if volume is not None else 0, 1024):
            tone = volume * np.sin(np.arange(begin, begin + 1024) * (2 * np.pi * 440 / RATE))
            sound = av.AudioFrame.from_ndarray(tone[None].astype(np.float32), format="fltp", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = RATE, begin, Fraction(1, RATE)
            container.mux(audio.encode(sound))
        for stream in streams:
            container.mux(stream.encode(None))


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "bad-videos")
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "bad-still.mp4", 4, moves=False)
    write(folder / "bad-silent.mp4", 4, volume=0)
    write(folder / "bad-no-audio.mp4", 4, volume=None)
    write(folder / "bad-no-video.mp4", 4, picture=False)
    write(folder / "bad-too-short.mp4", 0.5)
    write(folder / "bad-truncated.mp4", 4)
    whole = (folder / "bad-truncated.mp4").read_bytes()
    (folder / "bad-truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "bad-text.mp4").write_text("This is no video.\n")
    (folder / "bad-empty.mp4").write_bytes(b"")
    print(f"8 unusable videos in {folder}")


if __name__ == "__main__":
    main()
