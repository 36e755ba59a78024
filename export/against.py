"""What a finished model file is compared with: the run, or the published weights, that it came from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import l3edge
from l3edge.model_file import ModelFile
from training import artifacts

from . import ExportError, import_weights, published, verify
from .build import float_embeddings, tower_of
from .graph import Network
from .representative import Signal, parity_audio
from .tags import Tags, of_run


class Reference(NamedTuple):
    """The float32 network, and the audio that export compared on, with what the file says of that."""

    spec: l3edge.Spec
    embed: verify.Embed
    clips: Sequence[Signal]
    described: dict[str, Any]
    tags: Tags | None = None


def reference(file: ModelFile, against: Path, data: Path | None, audio: Sequence[Path]) -> Reference:
    """What `python -m export` or `export.import_weights` compared with, given the same audio."""
    if against.is_dir():
        run = artifacts.load_run(against)
        clips, described = parity_audio(run.spec, data or Path(run.data), audio, run.excluded)
        return Reference(run.spec, tower_of(run), clips, described, of_run(against, run.spec.embedding_size))
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
    if model.tag_names:
        if wanted.tags is None or list(wanted.tags.names) != model.tag_names:
            raise ExportError(f"{file.path} has tags that {against} has not, or not these: export the run again")
        measured["tags_max_error"] = verify.head_error(model, wanted.tags.scores, wanted.clips)
    if whole:
        measured |= verify.same_mel(model, whole, wanted.clips)
    return measured, ", ".join(f"{key} {value}" for key, value in wanted.described.items())
