"""What a finished model file is compared with: the run, or the published weights, that it came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import l3edge
from l3edge.model_file import ModelFile
from training import artifacts

from . import ExportError, head, import_weights, published, tags, verify
from .build import float_embeddings, scoring, tower_of
from .graph import Network
from .representative import Signal, parity_audio


class Reference(NamedTuple):
    """The float32 network, and the audio that export compared on, with what the file says of that."""

    spec: l3edge.Spec
    embed: verify.Embed
    clips: Sequence[Signal]
    described: dict[str, Any]
    scoring: Mapping[str, tags.Tags | head.Head] = MappingProxyType({})  # by their signatures, what scores embeddings


def reference(file: ModelFile, against: Path, data: Path | None, audio: Sequence[Path]) -> Reference:
    """What `python -m export` or `export.import_weights` compared with, given the same audio."""
    if against.is_dir():
        run = artifacts.load_run(against)
        clips, described = parity_audio(run.spec, data or Path(run.data), audio, run.excluded)
        size = run.spec.embedding_size
        scored = scoring(tags.of_run(against, size), head.of_run(against, size))
        return Reference(run.spec, tower_of(run), clips, described, scored)
    size, kind = file.spec.embedding_size, str(file.metadata["provenance"].get("kind", ""))
    openl3 = kind.removeprefix("openl3-")
    read = published.read(
        against, size if size in (512, 6144) else None, openl3 if openl3 in published.OPENL3 else None
    )
    _, clips, described = import_weights.audio_of(read.spec, audio)
    return Reference(
        read.spec, float_embeddings(Network(read.spec, read.weights, affine=read.affine)), clips, described
    )


def parity_of(
    file: ModelFile, against: Path, data: Path | None, audio: Sequence[Path], twin: Path | None
) -> tuple[dict[str, Any], str]:
    """The figures that export stores, measured again, and what they were measured on.

    twin: of a file for the Edge TPU, the same network's for the CPU.
    """
    wanted = reference(file, against, data, audio)
    if wanted.spec.to_json() != file.spec.to_json():
        raise ExportError(f"{against} is {wanted.spec.name}, and {file.path} holds another network: {file.spec.name}")
    model, whole = l3edge.load(file.path), l3edge.load(twin) if twin else None
    measured = verify.measure(model, wanted.embed, wanted.clips, whole)
    had = {key: names for key, names in (("tags", file.tag_names), ("head", file.head_labels)) if names}
    for key, names in had.items():
        if key not in wanted.scoring or list(wanted.scoring[key].names) != names:
            what = "tags" if key == "tags" else "a head"
            raise ExportError(f"{file.path} has {what} that {against} has not, or not these: export the run again")
    measured |= verify.scores_errors(model, {key: wanted.scoring[key] for key in had}, wanted.clips)
    if whole:
        measured |= verify.same_mel(model, whole, wanted.clips)
    return measured, ", ".join(f"{key} {value}" for key, value in wanted.described.items())
