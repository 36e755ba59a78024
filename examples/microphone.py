"""Listen to a microphone and print how fast the sound is changing: python examples/microphone.py [SECONDS]"""

import sys

import numpy as np

import l3edge

seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
model = l3edge.load()
previous = None
with l3edge.Microphone() as microphone:
    print(f"listening at {microphone.sample_rate} Hz for {seconds:g} s")
    for embedding, time in model.listen(microphone):
        if previous is not None:
            change = float(np.linalg.norm(embedding - previous))
            print(f"{time:6.2f} s  {'#' * min(60, round(4 * change))}")
        previous = embedding
        if time >= seconds:
            break
