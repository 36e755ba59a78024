"""Print what a recording sounds like, by the tags of a model that has them: python examples/tags.py [FILE [MODEL]]"""

import sys
from pathlib import Path

import l3edge

source = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "scene.flac"
model = l3edge.load(sys.argv[2] if len(sys.argv) > 2 else None)
if not model.tag_names:
    print(f"{model.name} has no tags; name a model that has them: python examples/tags.py {source.name} MODEL")
    sys.exit()

embeddings, times = model.embed(*l3edge.audio.read(source))
last = None
for embedding, time in zip(embeddings, times, strict=True):
    name, score = model.tags(embedding, top=1)[0]
    if score >= 0.3 and name != last:
        print(f"{time:6.2f} s  {name} ({score:.2f})")
        last = name

means = model.tag_scores(embeddings).mean(axis=0)  # float32 [t, n] -> [n]
best = sorted(zip(means, model.tag_names, strict=True), reverse=True)[:5]
print("in all:", ", ".join(f"{name} {mean:.2f}" for mean, name in best))
