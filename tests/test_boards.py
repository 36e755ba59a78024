"""ARM: what tests/arm/run.sh last found is what is promised, and docs/boards.md says it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import l3edge

pytest.importorskip("matplotlib", reason="pages are written with the training environment")

from benchmarks import boards
from tests.arm import record

DOCUMENTS = boards.read()


@pytest.mark.parametrize("architecture", boards.ARCHITECTURES)
def test_arm_gives_the_promised_bits(architecture: str) -> None:
    cores = DOCUMENTS[architecture]["cores"]
    assert cores
    for found in cores.values():
        assert set(found["instructions"]) == set(l3edge.models())
        for streamed in found["machine"]["streamed against window"].values():
            assert streamed["values"] > 1000
            assert streamed["differing"] == 0
        for apart in found["between machines"].values():
            assert apart["most_steps"] <= 1
        assert found["machine"]["engine"] == found["against"]["engine"]
        assert found["machine"]["machine"] != found["against"]["machine"]


@pytest.mark.parametrize("architecture", boards.ARCHITECTURES)
def test_its_tests_passed_there(architecture: str) -> None:
    told = DOCUMENTS[architecture]["tests"]
    assert "passed" in told
    assert "failed" not in told
    assert "error" not in told


def test_the_page_says_what_was_found() -> None:
    page = boards.PAGE.read_text()
    inside = page.partition(boards.MARKERS.begin)[2].partition(boards.MARKERS.end)[0]
    assert inside.strip() == boards.generated(DOCUMENTS), "python -m benchmarks.boards --write"


def test_a_share_is_cycles_by_the_clock() -> None:
    board = boards.Board("one", "cortex-a53", 4, 1.0)
    share = boards.share(board, 6_000_000, streams=4)  # 240 million a second, 0.5 to 1.2 a cycle
    assert (share.low, share.high) == pytest.approx((0.2, 0.48))
    assert str(share) == "20–48 %"


@pytest.mark.parametrize(
    ("high", "cores", "said"),
    [
        (0.5, 4, "one of its cores"),
        (0.8, 4, "2 processes"),
        (1.39, 4, "2 processes"),  # two streams each
        (1.69, 4, "4 processes"),  # of three processes, one would have two streams: 0.845 of a core
        (2.8, 4, "4 processes"),
        (2.9, 4, "not"),
        (2.9, 8, "not"),  # a stream needs more than a core has
        (1.69, 2, "not"),
    ],
)
def test_the_worst_decides(high: float, cores: int, said: str) -> None:
    assert said in boards.verdict(boards.processes(boards.Share(high / 2, high), cores))


def test_memory_is_of_all_its_processes() -> None:
    document = {**DOCUMENTS["armhf"], "resident MB with 4 streams": {"edge-l-2": 50}}
    rows = [row.split("|")[5:7] for row in boards.answers(document, "edge-l-2").splitlines()[2:]]
    assert any("processes" in said for _, said in rows)
    for memory, said in rows:
        found = re.search(r"in (\d) processes", said)
        assert memory.strip() == f"{50 * int(found[1] if found else 1)} MB"


def test_instructions_are_what_twice_as_many_hops_are_more(tmp_path: Path) -> None:
    regions, marks = tmp_path / "regions", tmp_path / "marks"
    regions.write_text('{"hops": 10, "regions": [["edge-s-2", "step"], ["edge-s-2", "push"]]}')
    counts = [7, 100, 100 + 50 + 1000, 1150 + 50 + 2000, 4000, 4050 + 1200, 5250 + 50 + 2400]
    marks.write_text("INFO: something\n" + "".join(f"instructions {count}\n" for count in counts))
    assert record.instructions(regions, marks) == {"edge-s-2": {"step": 100, "push": 120}}
