"""Embeddings as a map and as clusters: t-SNE, and k-means against labels, as in Arandjelovic & Zisserman 2017,
section 4.

The map is of standardised embeddings, at most `COMPONENTS` principal components of them (van der Maaten & Hinton
2008, section 4.2, reduce to 30). Agreement of clusters and labels is normalised mutual information, by the arithmetic
mean of the two entropies. It is above 0 for clusters that know nothing where labels are many and clips are few:
`shuffled` says how much.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import normalized_mutual_info_score
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

FEWEST = 8  # clips, for a map
COMPONENTS = 30
PERPLEXITY = 30.0
SHUFFLES = 20


class Clusters(NamedTuple):
    """How embeddings of n clips lie."""

    points: NDArray[np.float32] | None  # [n, 2], the map; None of fewer than `FEWEST` clips
    agreement: float | None  # NMI of clusters with labels; None with fewer than two labels
    shuffled: float | None  # the mean of the same with the labels shuffled


def cluster(embeddings: NDArray[np.float32], labels: list[str | None]) -> Clusters:
    """Map and clusters of embeddings [n, d]; clips without a label are on the map and not in the agreement.

    As many clusters as there are labels. The same on every call: one thread, fixed seeds.
    """
    values = StandardScaler().fit_transform(embeddings.astype(np.float64))
    known = np.array([label is not None for label in labels])
    names = np.array([label for label in labels if label is not None])
    points, agreement, shuffled = None, None, None
    with threadpool_limits(1):
        if len(values) >= FEWEST and np.ptp(values) > 0:
            reduced = PCA(min(COMPONENTS, *values.shape), random_state=0).fit_transform(values)
            perplexity = min(PERPLEXITY, (len(values) - 1) / 3)
            points = TSNE(2, perplexity=perplexity, init="pca", random_state=0, n_jobs=1).fit_transform(reduced)
        kinds = len(set(names))
        distinct = len(np.unique(values[known], axis=0)) if known.any() else 0
        if kinds >= 2 and distinct >= kinds:
            found = KMeans(kinds, n_init=10, random_state=0).fit_predict(values[known])
            agreement = float(normalized_mutual_info_score(names, found))
            random = np.random.default_rng(0)
            scores = [normalized_mutual_info_score(random.permutation(names), found) for _ in range(SHUFFLES)]
            shuffled = float(np.mean(scores))
    return Clusters(points, agreement, shuffled)
