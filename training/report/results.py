"""Sections on what the network does: curves, correspondence by label, maps and clusters."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import pdist

from ..cli import TrainingError
from . import charts
from .findings import Findings
from .markup import bar, figure, note, share, table, text

MOST_LABELS = 40  # in the matrix and the table
CONFUSIONS = 6  # listed

PAPER = "<cite>Arandjelović &amp; Zisserman 2017, “Look, Listen and Learn”</cite>, section 4"


def _history(path: Path) -> list[dict[str, float | None]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return [{name: float(v) if v else None for name, v in row.items()} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError) as error:
        raise TrainingError(f"{path} cannot be read: {error}") from error


def curves(findings: Findings) -> str:
    """Loss, accuracy and learning rate over the steps."""
    path = findings.run.directory / "history.csv"
    if not path.is_file():
        return note("This run has no history.csv, hence no curves.")
    rows = _history(path)
    steps = [row.get("step") or 0.0 for row in rows]
    if not steps or max(steps) <= 0:
        return note("Its history.csv holds no evaluation, hence no curves.")

    def column(name: str) -> list[float | None]:
        return [row.get(name) for row in rows]

    rates = charts.lines("learning rate", steps, {"learning rate": column("learning_rate")})
    if findings.supervised:
        chance = 2 * float(np.log(len(findings.run.metrics["labels"])))
        loss = charts.lines("cross entropy, nats", steps, {"train": column("train_loss")}, (chance, "chance"))
        return figure(
            f'<div class="three">{loss}{rates}</div>',
            "The mean over the augmented training clips since the dot before, of the audio and the image network's "
            "cross entropies, added. The dashed line is what two networks have that give all classes the same "
            "probability.",
            "wide",
        )
    drawn = [
        charts.lines(
            f"{name}",
            steps,
            {"train": column(f"train_{quantity}"), "validation": column(f"validation_{quantity}")},
            level,
        )
        for name, quantity, level in (
            ("cross entropy, nats", "loss", (float(np.log(2)), "chance")),
            ("share of pairs judged right", "accuracy", (0.5, "chance")),
        )
    ]
    drawn.append(rates)
    legend = '<p class="legend"><span class="key c0"></span>train <span class="key c1"></span>validation</p>'
    return figure(
        legend + f'<div class="three">{"".join(drawn)}</div>',
        "Each dot is an evaluation. <b>Train</b> is the mean over the augmented training pairs since the dot before; "
        "<b>validation</b> is over fixed pairs of held-out videos, half of them positive. Where train goes on and "
        "validation does not follow, the network learns the videos by heart. The dashed line is a coin toss.",
        "wide",
    )


def _overall(findings: Findings) -> str:
    pairs = findings.pairs
    assert pairs is not None
    n = len(findings.clips.names)
    rows = [("own pairs, accepted", f"{n:,}", bar(pairs.positives, share(pairs.positives)))]
    rows.append(("pairs of two videos, rejected", f"{pairs.pairs:,}", bar(pairs.negatives, share(pairs.negatives))))
    if findings.labels:
        both = round(pairs.pairs * pairs.shared)
        rows += [
            (
                "&emsp;of these, with no label in common",
                f"{pairs.pairs - both:,}",
                bar(pairs.other_label, share(pairs.other_label)),
            ),
            ("&emsp;of these, with a label in common", f"{both:,}", bar(pairs.same_label, share(pairs.same_label))),
        ]
    return table(("pairs", "number", "judged right"), rows, "overall")


def accuracy(findings: Findings) -> str:
    """Correspondence over all pairs of the held-out clips, and by label where there are labels."""
    if findings.supervised:
        return note(
            "The towers were trained on labels. The fusion, which would judge whether a picture and a sound belong "
            "together, was not trained, so it is not asked. The accuracy at the top of the page, where there is one, "
            "is that of direct combination: the scalar product of the two networks' class probabilities, above a "
            "threshold that is the best one on pairs of the validation split."
        )
    pairs = findings.pairs
    if pairs is None:
        return note(
            "All held-out clips are of one video. No picture and sound of two videos can be put together, so there is "
            "no accuracy."
        )
    n = len(findings.clips.names)
    parts = [
        f"<p>Every picture of the {n:,} held-out clips was put together with every sound. A pair is accepted where the "
        "network gives it a probability above one half. The figures at the top of the page are over a fixed sample "
        "of these pairs.</p>",
        _overall(findings),
    ]
    if not findings.labels:
        parts.append(note("The data carry no labels, so there is no accuracy by label."))
        return "".join(parts)
    parts.append(
        f"<p>Of all pairs of two videos {share(pairs.shared)} have a label in common: as far as labels go, they are "
        "no negatives. A judge who knows the labels without fault and nothing else accepts all of them, and reaches "
        f"1 − {pairs.shared:.4f} / 2 = <b>{share(pairs.ceiling)}</b> where half the pairs are negative. That is the "
        "ceiling for what labels alone explain; only a judge who tells takes of the same source apart can pass it.</p>"
    )
    shown = np.arange(min(MOST_LABELS, len(findings.labels)))
    left_out = len(findings.labels) - len(shown)
    values = pairs.matrix[np.ix_(shown, shown)]
    if len(shown) > 2:  # alike labels beside each other
        filled = np.nan_to_num(values, nan=0.0)
        shown = leaves_list(linkage(pdist(filled + filled.T), "average", optimal_ordering=True))
        values = values[np.ix_(shown, shown)]
    names = [findings.labels[k] for k in shown]
    only = f" The {MOST_LABELS} most frequent of {len(findings.labels)} labels." if left_out else ""
    parts.append(
        figure(
            charts.matrix("Probability of correspondence by label", values, names),
            "<b>Which pictures the network takes for which sounds.</b> Row: label of the picture. Column: label of the "
            "sound. The stronger its colour, the higher the mean probability that the two belong together, from 0 to "
            "1, over pairs of two different videos; point at a cell to read it. The diagonal is filled where other "
            "takes of the same source are accepted; filled cells beside it are confusions. Labels that are judged "
            "alike are neighbours." + only,
            "matrix",
        )
    )
    off = [(values[i, j], i, j) for i in range(len(names)) for j in range(len(names)) if i != j]
    worst = sorted((entry for entry in off if entry[0] == entry[0]), reverse=True)[:CONFUSIONS]
    listed = "; ".join(f"picture of {text(names[i])} with sound of {text(names[j])} {v:.2f}" for v, i, j in worst)
    if listed:
        parts.append(f"<p>The largest mean probabilities off the diagonal: {listed}.</p>")
    rows = [
        (
            text(findings.labels[k]),
            f"{findings.members[:, k].sum():,}",
            bar(pairs.accepted[k], share(pairs.accepted[k])),
            share(pairs.picture[k]),
            share(pairs.sound[k]),
        )
        for k in sorted(range(min(MOST_LABELS, len(findings.labels))), key=lambda k: findings.labels[k])
    ]
    head = ("label", "clips", "own pairs<br>accepted", "its pictures, other<br>sounds rejected",
            "its sounds, other<br>pictures rejected")  # fmt: skip
    parts.append(
        figure(
            table(head, rows),
            "<b>The same by label.</b> Of few clips a share is coarse: with 24 clips one clip is 4.2 %. “Other” are "
            "clips of other videos that have no label in common with the clip." + only,
        )
    )
    return "".join(parts)


def maps(findings: Findings) -> str:
    """t-SNE and NMI of both towers, trained and with random weights."""
    labels = findings.labels
    kinds = findings.kinds
    panels, rows = [], []
    for side, found in findings.sides.items():
        for name, clusters in (("trained", found.trained), ("random weights", found.random)):
            title = f"{side}, {name}"
            if clusters.points is not None:
                drawn = charts.scatter(title, clusters.points, kinds, labels)
                panels.append(f'<div class="panel"><h4>{title}</h4>{drawn}</div>')
            if clusters.agreement is not None:
                assert clusters.shuffled is not None
                shown = bar(clusters.agreement, f"{clusters.agreement:.3f}")
                rows.append((title, shown, f"{clusters.shuffled:.3f}"))
    parts = []
    if not panels:
        parts.append(note("There are too few held-out clips that differ for a map."))
    else:
        present = sorted({kind for kind in kinds if kind is not None})
        keys = "".join(
            f'<span class="entry"><svg viewBox="0 0 12 12">{charts.mark(k)}</svg>{text(labels[k])}</span>'
            for k in present[: charts.MOST_MARKS]
        )
        more = (
            f"; {len(present) - charts.MOST_MARKS} further labels are grey" if len(present) > charts.MOST_MARKS else ""
        )
        told = (
            "A clip's colour and mark are its first label" + more + "; a name is written where at least half of a "
            "label's clips lie close together. Point at a mark to see its label alone. "
            if labels
            else "The data carry no labels, hence no colours. "
        )
        parts.append(
            figure(
                f'<div class="two">{"".join(panels)}</div>' + (f'<p class="keys">{keys}</p>' if keys else ""),
                "<b>Embeddings of held-out clips as maps</b> (t-SNE of standardised embeddings, perplexity at most "
                "30). Each mark is a clip. Left as trained; right from the same network with random weights, which is "
                "what its architecture gives without learning. " + told + "Near means alike; the axes, each stretched "
                "to its panel, the distances between groups and their sizes mean nothing. Clips of one video resemble "
                "each other, also without learning.",
                "wide",
            )
        )
    if rows:
        parts.append(
            figure(
                table(("embedding", "NMI with the labels", "labels shuffled"), rows, "overall"),
                "<b>Do clusters find the labels?</b> k-means with as many clusters as labels "
                f"({len(set(kinds) - {None})}), which sees no label, against the labels, as in {PAPER}. Normalised "
                "mutual information is 1 where clusters and labels are the same partition. Clusters that know nothing "
                "are above 0 when clips are few: the last column is the same score with shuffled labels.",
            )
        )
    elif labels:
        parts.append(note("There are too few labels or clips for clusters, hence no NMI."))
    else:
        parts.append(note("The data carry no labels to compare clusters with, hence no NMI."))
    return "".join(parts)
