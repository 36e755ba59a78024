"""Embed a folder of audio into Parquet, on one machine or many: python examples/embed_parquet.py [FOLDER [OUTPUT]]

Each audio file becomes a Parquet file. What OUTPUT has of this model is left, so that the same command goes on where it
ended. Options after OUTPUT are Apache Beam's, such as --runner: docs/archives.md.
"""

import sys
from contextlib import suppress
from itertools import chain
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
from pyarrow.parquet import ParquetWriter, read_schema

import l3edge
from l3edge.folders import audio_files


class Embed(beam.DoFn):
    """Name of an audio file in a folder -> its Parquet file; and, where it cannot be read, why not."""

    def setup(self):  # once in each worker
        self.model = l3edge.load()
        about = {"model": self.model.name, "model_sha256": self.model.identity}
        vector = pa.list_(pa.float32(), self.model.spec.embedding_size)
        self.schema = pa.schema({"path": pa.string(), "time": pa.float64(), "embedding": vector}, about)

    def process(self, name, folder, output):
        target, outcome = output / f"{name}.parquet", "embedded"
        with suppress(OSError, pa.ArrowException):  # there is none, or a damaged one
            outcome = "already there" if read_schema(target).metadata == self.schema.metadata else outcome
        try:
            if outcome == "embedded":
                target.parent.mkdir(parents=True, exist_ok=True)
                with l3edge.audio.open_file(folder / name) as file, l3edge.model_file.replacing(target) as part:
                    self.write(name, file, part)
        except l3edge.AudioError as error:
            outcome = "unreadable"
            yield str(error)
        beam.metrics.Metrics.counter("files", outcome).inc()

    def write(self, name, file, part):
        stream = self.model.stream(file.sample_rate)
        with ParquetWriter(part, self.schema) as writer:
            for block in chain(file.blocks(60 * file.sample_rate), [None]):  # a minute at a time
                embeddings, times = stream.flush() if block is None else stream.push(block)
                writer.write(pa.table([[name] * len(times), times, list(embeddings)], schema=self.schema))


if __name__ == "__main__":
    given = sys.argv[1:3] + [Path(__file__).parent, "embeddings"][len(sys.argv[1:3]) :]
    folder, output = (Path(each).absolute() for each in given)
    names = [str(path.relative_to(folder)).encode(errors="replace").decode() for path in audio_files(folder)]
    with beam.Pipeline(argv=sys.argv[3:]) as pipeline:
        bad = pipeline | beam.Create(names) | beam.Reshuffle() | beam.ParDo(Embed(), folder, output)
        bad | beam.io.WriteToText(f"{output}/unreadable.txt", shard_name_template="")
    for counter in pipeline.result.metrics().query()["counters"]:
        print(f"{counter.key.metric.name}: {counter.committed} files")
