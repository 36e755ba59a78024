"""Events: what a stream of labelled windows tells, whatever it is and however it arrives."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import l3edge
from l3edge.events import ROUNDING, Detector
from l3edge.heads import UNKNOWN
from l3edge.records import Event

LABELS = ("bell", "dog")
HOP = 0.1


def told(detector: Detector, scores: list[tuple[float, float, bool]], begin: float = 0.5) -> list[Event]:
    """What a row of windows tells; of each the scores of both labels, and whether it is like one of them."""
    events = []
    for number, (bell, dog, known) in enumerate(scores):
        label = (LABELS[0] if bell >= dog else LABELS[1]) if known else UNKNOWN
        events += detector.hop(begin + number * HOP, (bell, dog), label)
    return events


def bells(*scores: float) -> list[tuple[float, float, bool]]:
    return [(score, 1 - score, True) if score > 0.5 else (score, 0.0, True) for score in scores]


def test_an_event_begins_and_ends() -> None:
    detector = Detector(LABELS, on=0.6, off=0.4, minimum=0.3, hold=0.1)
    events = told(detector, bells(0.1, 0.7, 0.9, 0.5, 0.45, 0.1, 0.1, 0.1))
    begun, ended = events
    assert begun == Event("bell", pytest.approx(0.6), None, 0.9)  # told when it has lasted: at 0.9 s
    assert ended == Event("bell", pytest.approx(0.6), pytest.approx(0.9), 0.9)
    assert detector.flush() == []


def test_hysteresis() -> None:
    """A score between the two goes on and does not begin."""
    detector = Detector(LABELS, on=0.6, off=0.4, minimum=0.0, hold=0.0)
    assert told(detector, bells(0.45, 0.5, 0.45)) == []
    (begun,) = told(detector, bells(0.6, 0.4, 0.4), 1.0)
    assert begun.offset is None
    (ended,) = detector.flush()
    assert ended.offset == pytest.approx(1.2)


def test_a_short_interruption_is_held_a_longer_one_ends() -> None:
    for pause, count in ((3, 1), (4, 2)):
        detector = Detector(LABELS, minimum=0.0, hold=0.3)
        events = told(detector, bells(0.9, 0.9, *[0.0] * pause, 0.9)) + detector.flush()
        assert len(events) == 2 * count


def test_what_is_too_short_is_not_told() -> None:
    detector = Detector(LABELS, minimum=0.3, hold=0.0)
    assert told(detector, bells(0.9, 0.9, 0.9, 0.0, 0.0)) + detector.flush() == []


def test_unknown_begins_nothing_and_ends_what_goes_on() -> None:
    detector = Detector(LABELS, minimum=0.0, hold=0.0)
    assert told(detector, [(0.9, 0.1, False)] * 5) == []
    events = told(detector, [(0.9, 0.1, True)] * 3 + [(0.9, 0.1, False)] * 3, 10.0)
    assert [event.offset for event in events] == [None, pytest.approx(10.2)]


def test_a_gap_ends_what_goes_on() -> None:
    detector = Detector(LABELS, minimum=0.0, hold=1.0)
    told(detector, bells(0.9, 0.9))
    (ended,) = detector.gap()
    assert ended.offset == pytest.approx(0.6)
    (begun,) = told(detector, bells(0.9), 0.7)
    assert (begun.onset, begun.offset) == (0.7, None)


def test_events_have_pythons_numbers() -> None:
    """Whatever NumPy's they are made from: JSON, and many a queue, take no others."""
    detector = Detector(LABELS, minimum=0.0)
    events = detector.hop(np.float64(0.5), np.array([0.9, 0.1], np.float32), "bell") + detector.flush()
    assert [type(number) for event in events for number in event[1:]] == [float, type(None), float, *[float] * 3]


def test_impossible_settings() -> None:
    for settings in ({"on": 0.3}, {"on": 1.1}, {"off": -0.1}, {"minimum": -1}, {"hold": math.nan}, {"hold": math.inf}):
        with pytest.raises(l3edge.OptionError):
            Detector(LABELS, **settings)


shares = st.floats(0, 1, allow_nan=False, allow_subnormal=False)  # 32-bit ARM makes them zero
streams = st.lists(st.tuples(shares, shares, st.booleans()), max_size=80)


@given(streams, shares, shares, st.sampled_from([0.0, 0.1, 0.3, 1.0]), st.sampled_from([0.0, 0.2, 0.5]), st.data())
def test_events_alternate_do_not_overlap_and_last(
    scores: list[tuple[float, float, bool]], one: float, other: float, minimum: float, hold: float, data: st.DataObject
) -> None:
    detector = Detector(LABELS, max(one, other), min(one, other), minimum, hold)
    events, time = [], 0.5
    for bell, dog, known in scores:
        if data.draw(st.integers(0, 9)) == 0:
            events += detector.gap()
            time += 0.7
        events += told(detector, [(bell, dog, known)], time)
        time += HOP
    events += detector.flush()
    for label in LABELS:
        own = [event for event in events if event.label == label]
        assert len(own) % 2 == 0
        before = -1.0
        for begun, ended in zip(own[::2], own[1::2], strict=True):
            assert begun.offset is None
            assert ended.offset is not None
            assert ended.onset == begun.onset > before
            assert ended.offset - ended.onset >= minimum - 2 * ROUNDING
            assert 1 >= ended.score >= begun.score >= max(one, other)
            before = ended.offset


@given(streams)
def test_each_event_has_a_window_that_began_it(scores: list[tuple[float, float, bool]]) -> None:
    detector = Detector(LABELS)
    for event in told(detector, scores) + detector.flush():
        bell, dog, known = scores[round((event.onset - 0.5) / HOP)]
        assert known
        assert (bell, dog)[LABELS.index(event.label)] >= 0.6
