"""The estimators inside scikit-learn's, imbalanced-learn's and joblib's machinery."""

import os
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import polars
import pyarrow
import pytest
import sklearn
import torch
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import PCA
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_validate,
)
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skpair import PairEncoder, PairMatcher
from skpair.rows import pictures

CV = StratifiedKFold(2, shuffle=True, random_state=0)


@pytest.fixture(scope="module")
def matcher():
    return PairMatcher(max_epochs=10, random_state=0)


@pytest.mark.slow
def test_pipeline_of_encoder_and_matcher(layouts):
    for X, y in layouts.values():
        pipeline = make_pipeline(
            PairEncoder(max_epochs=1, random_state=0), PairMatcher(max_epochs=2, random_state=0)
        ).fit(X, y)
        assert pipeline.predict(X).shape == y.shape
        assert pipeline.predict_proba(X).shape == (len(y), len(np.unique(y)))
        assert pipeline.transform(X).shape == (len(y), 64)


def test_pipeline_with_a_scaler(features, matcher):
    X, y = features
    pipeline = Pipeline([("scale", StandardScaler()), ("match", matcher)]).fit(X, y)
    np.testing.assert_allclose(
        pipeline.transform(X), clone(matcher).fit(X, y).transform(X), rtol=1e-2, atol=1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_grid_search_over_the_loss(features, matcher, n_jobs):
    X, y = features
    grid = {"loss": ["n_pair", "binary_cross_entropy", "triplet"], "temperature": [0.1, 0.5]}
    search = GridSearchCV(matcher, grid, cv=CV, scoring="balanced_accuracy", n_jobs=n_jobs)
    search.fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_score_ > 0.9
    assert search.predict(X).shape == y.shape


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["pixels", "files"])
def test_grid_search_over_the_encoder(layouts, layout):
    X, y = layouts[layout]
    matcher = PairMatcher(PairEncoder(max_epochs=1), max_epochs=2, random_state=0)
    grid = {"encoder__lr": [0.001, 0.01], "training": ["two_stage", "joint"]}
    search = GridSearchCV(matcher, grid, cv=CV, n_jobs=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.slow
def test_grid_search_over_a_pipeline_of_files(files):
    X, y = files
    pipeline = make_pipeline(PairEncoder(frozen=True), PairMatcher(max_epochs=2))
    search = GridSearchCV(pipeline, {"pairmatcher__embedding_dim": [4, 8]}, cv=CV).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.transform(X).shape[1] == search.best_params_["pairmatcher__embedding_dim"]


@pytest.mark.slow
def test_randomized_search(features, matcher):
    X, y = features
    space = {"lr": loguniform(1e-3, 1e-2), "embedding_dim": [8, 16]}
    search = RandomizedSearchCV(matcher, space, n_iter=3, cv=CV, random_state=0).fit(X, y)
    assert search.best_score_ > 0.9


def test_cross_validate_with_several_metrics(features, matcher):
    X, y = features
    scoring = ["accuracy", "balanced_accuracy", "f1_macro", "roc_auc_ovr", "neg_log_loss"]
    scores = cross_validate(matcher, X, y, cv=CV, scoring=scoring, return_estimator=True)
    for name in scoring:
        assert np.isfinite(scores[f"test_{name}"]).all()
    assert scores["test_roc_auc_ovr"].min() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_cross_val_predict(features, matcher, method):
    X, y = features
    labels = np.array(["a", "b", "c", "d"])[y]
    predicted = cross_val_predict(matcher, X, labels, cv=CV, method=method)
    named = predicted if method == "predict" else np.unique(labels)[predicted.argmax(axis=1)]
    assert balanced_accuracy_score(labels, named) > 0.9


def test_clone_keeps_parameters_and_forgets_the_rest(features, matcher):
    X, y = features
    fitted = clone(matcher).fit(X, y)
    again = clone(fitted)
    assert again.get_params() == fitted.get_params()
    assert not hasattr(again, "classes_")


def test_set_output_gives_data_frames(features, matcher):
    X, y = features
    embedded = clone(matcher).set_output(transform="pandas").fit(X, y).transform(X)
    assert embedded.columns[0] == "pairmatcher0" and embedded.shape == (len(X), 64)
    encoder = PairEncoder(frozen=True).set_output(transform="pandas")
    assert encoder.fit_transform(X).columns[-1] == "pairencoder127"


@pytest.mark.slow
@pytest.mark.parametrize("output", ["pandas", "polars"])
@pytest.mark.parametrize("training", ["two_stage", "joint"])
def test_the_users_output_setting_is_not_the_matchers_own_business(digits, output, training):
    X, y = digits
    few = {"max_epochs": 1, "random_state": 0}
    encoder = PairEncoder(**few)
    expected = PairMatcher(encoder, training=training, **few).fit(X, y).predict_proba(X)
    inside = PairMatcher(clone(encoder).set_output(transform=output), training=training, **few)
    np.testing.assert_array_equal(inside.fit(X, y).predict_proba(X), expected)
    with sklearn.config_context(transform_output=output):
        matcher = PairMatcher(encoder, training=training, **few).fit(X, y)
        np.testing.assert_array_equal(matcher.predict_proba(X), expected)
        assert matcher.pair_score(X).shape == y.shape
        assert type(matcher.transform(X)).__module__.startswith(output)
        assert type(matcher.encoder_.transform(X)).__module__.startswith(output)
        pipeline = make_pipeline(encoder, PairMatcher(**few)).fit(X, y)
        assert pipeline.predict(X).shape == y.shape


TABLES = {
    "pandas": lambda table: table,
    "polars": polars.from_pandas,
    "pyarrow": pyarrow.Table.from_pandas,
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(TABLES))
def test_tables_of_features(features, matcher, kind):
    X, y = features
    names = [f"column {i}" for i in range(X.shape[1])]
    table = TABLES[kind](pd.DataFrame(X, columns=names))
    half = TABLES[kind](pd.DataFrame(X[:, :10], columns=names[:10]))
    drawn = TABLES[kind](pd.DataFrame(X[:, 10:], columns=names[10:]))
    expected = clone(matcher).fit(X, y)
    for fitted in (clone(matcher).fit(table, y), clone(matcher).fit(half, drawn, y)):
        np.testing.assert_array_equal(fitted.predict_proba(half), expected.predict_proba(X))
        np.testing.assert_array_equal(fitted.embed_skeletons(drawn), expected.embed_skeletons(X))
        np.testing.assert_array_equal(fitted.pair_score(half, drawn), expected.pair_score(X))
    fitted = clone(matcher).fit(table, y)
    np.testing.assert_array_equal(fitted.predict_proba(table), expected.predict_proba(X))
    with pytest.raises(ValueError, match="feature names should match"):
        fitted.predict(drawn)  # of the other half
    assert cross_validate(matcher, table, y, cv=CV)["test_score"].min() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(TABLES))
def test_tables_of_files(files, kind):
    X, y = files
    encoder = PairEncoder(image_size=16, max_epochs=1)
    fitted = PairMatcher(encoder, max_epochs=1, random_state=0).fit(X, y)
    again = clone(fitted).fit(TABLES[kind](X), y)
    for part, method in (("image", "predict_proba"), ("skeleton", "embed_skeletons")):
        expected = getattr(fitted, method)(X)
        for table in (TABLES[kind](X), TABLES[kind](X[[part]])):
            np.testing.assert_array_equal(getattr(again, method)(table), expected)
    assert again.gallery_.skeleton_ids.tolist() == X["skeleton"].tolist()
    with pytest.raises(ValueError, match=r"strings with the columns \['photo'\].*rename them"):
        again.predict(TABLES[kind](X[["image"]].rename(columns={"image": "photo"})))


@pytest.mark.slow
def test_calibrated_classifier(features, matcher):
    X, y = features
    calibrated = CalibratedClassifierCV(matcher, cv=CV).fit(X, y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
    assert calibrated.score(X, y) > 0.9


def test_voting_classifier(features, matcher):
    X, y = features
    voting = VotingClassifier(
        [("match", matcher), ("regression", LogisticRegression(max_iter=1000))], voting="soft"
    ).fit(X, y)
    assert voting.score(X, y) > 0.9


def test_nearest_neighbours_and_pca_on_embeddings(features, matcher):
    X, y = features
    for last in (KNeighborsClassifier(), make_pipeline(PCA(2), KNeighborsClassifier())):
        assert make_pipeline(clone(matcher), last).fit(X, y).score(X, y) > 0.9


@pytest.mark.parametrize(
    ("sampler", "counts"),
    [(RandomOverSampler(random_state=0), [60, 30, 20, 10]), (SMOTE(random_state=0), [60] * 4)],
)
def test_imbalanced_learn_resamples_before_the_matcher(features, matcher, sampler, counts):
    X, y = features
    pipeline = make_imblearn_pipeline(sampler, clone(matcher)).fit(X, y)
    known = np.bincount(pipeline[-1].gallery_.image_cases)
    assert known.tolist() == counts  # copies of a row are known once
    assert pipeline.score(X, y) > 0.9


LOAD = """
import sys, joblib, pickle, numpy as np
path, kind = sys.argv[1:]
load = joblib.load if kind == "joblib" else lambda p: pickle.load(open(p, "rb"))
estimator, X, expected = load(path)
np.testing.assert_allclose(estimator.transform(X), expected, rtol=1e-4, atol=1e-5)
estimator.predict(X), estimator.predict_pairs(X), estimator.kneighbors(X)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "early_stopping"), [("joblib", False), ("pickle", True)])
def test_round_trip_into_a_new_process(digits, tmp_path, kind, early_stopping):
    X, y = digits
    fitted = PairMatcher(
        PairEncoder(max_epochs=1), max_epochs=2, early_stopping=early_stopping, random_state=0
    ).fit(X, y)
    path = tmp_path / "matcher"
    stored = (fitted, X, fitted.transform(X))
    if kind == "joblib":
        joblib.dump(stored, path)
    else:
        path.write_bytes(pickle.dumps(stored))
    subprocess.run([sys.executable, "-c", LOAD, str(path), kind], check=True)


def test_a_pickle_does_not_carry_the_training_rows(features):
    X, y = features
    small = PairMatcher(embedding_dim=2, max_epochs=1).fit(X, y)
    wide = PairMatcher(embedding_dim=2, max_epochs=1).fit(np.tile(X, (20, 1)), np.tile(y, 20))
    grown = len(pickle.dumps(wide)) - len(pickle.dumps(small))
    per_row = grown / (19 * len(X))
    assert per_row < 4 * X.shape[1]  # a gallery of 2 x 2 float32 and codes, not the row itself


def describe_worker(X):
    """Threads of torch and of the decoding of files, and whether X came as a memory map."""
    decoders = pictures._pool(os.getpid())[1]
    return torch.get_num_threads(), decoders, isinstance(X, np.memmap)


def test_workers_share_the_cores_and_the_data():
    X = np.zeros((300, 2, 64, 64), np.uint8)  # joblib maps arrays of more than a megabyte
    jobs = [joblib.delayed(describe_worker)(X) for _ in range(2)]
    for threads, decoders, mapped in joblib.Parallel(n_jobs=2)(jobs):
        assert 2 * threads <= max(2, joblib.cpu_count())
        assert decoders <= threads
        assert mapped
