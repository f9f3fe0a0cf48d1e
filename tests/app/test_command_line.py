import io
import os
import re
import subprocess
import sys
import tomllib
import warnings
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from skpair import PairMatcher
from skpair.app import commands, score
from skpair.app.command_line import main
from skpair.app.files import as_png, find_images, object_ids, plan_targets
from skpair.app.page import make_page
from skpair.datasets import make_copepods
from skpair.field.tables import read_folder

CASES = ["egg", "nauplius"]


def draw(path, pixels=None, kind=None):
    """Write a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.eye(16, dtype=np.uint8) * 255 if pixels is None else pixels
    Image.fromarray(pixels).save(path, kind)
    return path


@pytest.fixture(scope="session")
def field(tmp_path_factory):
    """Folders and a table of 24 images and 8 drawings of two cases."""
    root = tmp_path_factory.mktemp("field")
    data = make_copepods(24, n_cases=2, imbalance=0, ambiguity=0, image_size=24, random_state=0)
    lines = ["photo;stage;haul"]
    for row, code in enumerate(data.y):
        haul = f"haul{row % 3}"
        draw(root / "images" / CASES[code] / haul / f"p{row}.png", data.images[row])
        lines.append(f"p{row};{CASES[code]};{haul}")
        if row < 8:
            draw(root / "drawings" / CASES[code] / f"d{row}.png", data.skeletons[row] * 255)
    (root / "labels.csv").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="session")
def model(field):
    """The file of a model that has hardly learned."""
    data = read_folder(field / "images", field / "drawings")
    matcher = commands._new_matcher(1)
    matcher.fit(data.images, data.drawings, data.y_images, data.y_drawings)
    matcher.save(field / "model.skpair")
    return str(field / "model.skpair")


def call(*arguments):
    return main(list(map(str, arguments)))


def refuse(capsys, *arguments):
    """Return the message of a call that is wrong."""
    with pytest.raises(SystemExit) as ended:
        call(*arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


# ---- fit -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_fit_reports_scores_and_saves(field, tmp_path, capsys):
    out = tmp_path / "m.skpair"
    folders = field / "images", "--drawings", field / "drawings"
    assert call("fit", *folders, "--groups", "subfolder", "--epochs", 1, "-o", out) == 0
    told = capsys.readouterr()
    assert told.out.startswith("FieldData(24 images and 8 drawings of 2 cases, 0 passed over)")
    assert "in 3 folds, those of one group together" in told.out  # three hauls of each case
    for what in ("balanced accuracy of the names", "average precision of pairs"):
        value, chance = re.search(rf"{what} +(0\.\d+|1\.0+) +\((.*) by chance", told.out).groups()
        assert 0 <= float(value) <= 1 and chance == "0.500"
    assert "Learned from all 24 images" in told.out
    assert told.err == ""
    matcher = PairMatcher.load(out)
    assert matcher.classes_.tolist() == CASES
    assert matcher.gallery_.counts.sum(axis=0).tolist() == [24, 8]
    assert matcher.n_iter_ == matcher.encoder_.max_epochs == 1


@pytest.mark.slow
def test_fit_from_a_table_tells_what_is_broken(field, tmp_path, capsys):
    table = tmp_path / "labels.csv"
    table.write_text((field / "labels.csv").read_text() + "\nlost;egg;haul1\n")
    columns = "--images", "photo", "--case", "stage", "--groups", "haul"
    where = "--folder", field / "images", "--drawings", field / "drawings"
    out = tmp_path / "m.skpair"
    assert call("fit", table, *columns, *where, "--no-score", "--epochs", 1, "-o", out) == 1
    told = capsys.readouterr()
    assert "balanced accuracy" not in told.out
    assert told.err.splitlines() == [
        "skpair: 1 file(s) were passed over:",
        "    lost: row 26, image not found",
    ]
    assert PairMatcher.load(out).gallery_.counts.sum(axis=0).tolist() == [24, 8]


def test_what_is_no_picture_is_no_fault_of_folders(capsys):
    passed_over = pd.DataFrame(
        {"file": ["notes.txt", "a.png"], "fault": ["no image", "broken"], "detail": ["x", "y"]}
    )
    assert len(commands._tell_passed_over(SimpleNamespace(passed_over=passed_over))) == 1
    assert capsys.readouterr().err.splitlines()[1:] == ["    a.png: y"]


# ---- the score -----------------------------------------------------------------------------------


def as_data(y, groups=None, digests=None):
    """Make as much of a FieldData as folds ask for."""
    y = np.array(y, dtype=object)
    digests = range(len(y)) if digests is None else digests
    files = pd.DataFrame({"kind": "image", "digest": list(map(str, digests))})
    groups = None if groups is None else np.array(groups, dtype=object)
    return SimpleNamespace(images=y, y_images=y, groups=groups, files=files)


@pytest.mark.parametrize(
    ("y", "groups", "digests", "n_folds"),
    [
        ("a" * 9 + "b" * 7, None, None, 5),
        ("a" * 9 + "b" * 3, None, None, 3),
        ("a" * 9 + "b" * 9 + "c", None, None, 2),
        ("a" * 9 + "b", None, None, 0),
        ("a" * 9 + "b" * 8, [*"112233445", *"66667777"], None, 2),
        ("aaaaaabbbb", None, [0, 1, 2, 3, 4, 5, 6, 6, 6, 7], 2),  # copies count once
        ("ab", None, None, 0),
        ("aaabb", [*"11122"], None, 0),
    ],
)
def test_the_rarest_case_decides_how_many_folds_there_are(y, groups, digests, n_folds):
    data = as_data(list(y), groups, digests)
    folds = score.make_folds(data)
    assert len(folds) == n_folds
    kept_together = data.files["digest"].to_numpy() if groups is None else data.groups
    for train, test in folds:
        assert not set(kept_together[train]) & set(kept_together[test])
    if folds:
        tested = np.concatenate([test for _, test in folds])
        assert sorted(tested) == list(range(len(y)))


def test_names_are_told_by_case():
    table = score.by_case(["a", "a", "a", "b", "c"], ["a", "b", "b", "b", "a"])
    assert table["images"].tolist() == [3, 1, 1]
    assert table["right"].tolist() == [0.33, 1.0, 0.0]
    assert table["mostly_taken_for"].tolist() == ["b", "", "a"]


class Oracle(PairMatcher):
    """It knows the cases that it has learned by the letter in a path, and says "a" of others."""

    def fit(self, X, y, *rest):
        self.learned_, self.cases_ = set(X), sorted(set(rest[0]))
        assert set(rest[1]) == set(self.cases_)
        return self

    def predict(self, X):
        assert not self.learned_ & set(X)
        return np.array([path[0] if path[0] in self.cases_ else "a" for path in X], dtype=object)

    def pair_proba_matrix(self, images, drawings):
        """Rank the drawings of "a" first, whatever the image is."""
        of_a = np.array([path[0] == "a" for path in drawings])
        return np.tile(np.where(of_a, 0.9, 0.1), (len(images), 1))


def test_the_score_is_that_of_names_and_pairs_held_out():
    y = np.array([*"aaaabbbb"], dtype=object)
    data = as_data(y)
    data.images = np.array([f"{case}{row}" for row, case in enumerate(y)], dtype=object)
    data.images[-1] = "a7"  # a file that looks like the other case
    data.drawings = np.array(["a", "b", "b", "b"], dtype=object)
    data.y_drawings = data.drawings
    told = score.estimate(Oracle(), data)
    assert re.search(r"balanced accuracy of the names +0\.875 +\(0\.500 by chance", told)
    # pairs of an "a" are ranked perfectly, those of a "b" come last, all at one place: 3 of 4
    assert re.search(r"average precision of pairs +0\.875 ", told)
    assert re.search(r"\nb +4 +0\.75 +a$", told)


def test_cases_of_one_image_count_as_wrong_and_are_named():
    y = np.array([*"aaaabbbbc"], dtype=object)
    names = np.array([f"{case}{row}" for row, case in enumerate(y)], dtype=object)
    data = as_data(y)
    data.images, data.drawings, data.y_drawings = names, names, y
    told = score.estimate(Oracle(), data)
    assert "in 2 folds" in told
    assert re.search(r"balanced accuracy of the names +0\.667 +\(0\.333 by chance", told)
    assert re.search(r"\nc +1 +0\.0+ +a\n", told)
    assert told.endswith("none is learned when it is asked: ['c']")


def test_there_may_be_too_few_images_for_a_score():
    assert score.estimate(Oracle(), as_data([*"aab"])).startswith("No score: two cases need two")


# ---- name ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_names_are_those_of_the_matcher_and_the_rest_is_done(field, model, tmp_path, capsys):
    whole = sorted(map(str, (field / "images").rglob("p*.png")))
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(whole[0]).read_bytes()[:60])
    (tmp_path / "notes.txt").write_text("on the way")
    out, missing = tmp_path / "names.csv", tmp_path / "missing.png"
    assert call("name", model, field / "images", tmp_path, missing, "-o", out) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "skpair: 2 file(s) were passed over:"
    assert str(broken) in told[1] and str(missing) in told[2]
    table = pd.read_csv(out)
    matcher = PairMatcher.load(model)
    assert table["path"].tolist() == whole
    assert table.columns.tolist() == ["path", "case", "probability", "novelty"]
    assert table["case"].tolist() == matcher.predict(whole).tolist()
    proba = matcher.predict_proba(whole).max(axis=1)
    np.testing.assert_allclose(table["probability"], proba, atol=1e-4)
    np.testing.assert_allclose(table["novelty"], matcher.novelty_score(whole), atol=1e-4)


@pytest.mark.slow
def test_names_go_to_ecotaxa(field, model, tmp_path):
    far = draw(tmp_path / "p0.png", np.tile(np.uint8([0, 255]), (24, 12)))
    first = next((field / "images").rglob("p0.png"))
    out, folder = tmp_path / "names.csv", tmp_path / "import"
    call("name", model, first, far, "-o", out, "--ecotaxa", folder, "--unknown", "other")
    names = pd.read_csv(out)
    assert names["object_id"].tolist() == ["p0", "p0_2"]
    assert (
        names["case"].tolist()
        == PairMatcher.load(model)
        .set_params(unknown_label="other")
        .predict([str(first), str(far)])
        .tolist()
    )
    table = pd.read_csv(folder / "ecotaxa_skpair.tsv", sep="\t", keep_default_na=False)
    assert table["object_id"].tolist() == ["[t]", "p0", "p0_2"]
    for name, category in zip(names["case"], table["object_annotation_category"][1:], strict=True):
        assert category == ("" if name == "other" else name)
    assert (folder / "p0.png").read_bytes() == first.read_bytes()
    assert (folder / "p0_2.png").read_bytes() == far.read_bytes()


@pytest.mark.slow
def test_where_no_image_is_left_nothing_is_written(model, tmp_path, capsys):
    out = tmp_path / "names.csv"
    assert call("name", model, tmp_path, "-o", out) == 1
    assert "there is no image to use in" in capsys.readouterr().err
    assert not out.exists()


def test_ids_are_the_names_of_files_each_once():
    paths = ["a/x.png", "b/x.tif", "x_2.png", "y.b.png"]
    assert object_ids(paths) == ["x", "x_2", "x_2_2", "y.b"]
    assert object_ids([]) == []


def test_folders_are_searched_for_images_once(tmp_path):
    picture = draw(tmp_path / "deep" / "er" / "a.PNG", kind="PNG")
    (tmp_path / "deep" / "notes.txt").write_text("no image")
    (tmp_path / "deep" / "Thumbs.db").write_bytes(b"")
    found = find_images([str(tmp_path), str(picture), "notes.txt"])
    assert found == [str(picture), "notes.txt"]


# ---- find ----------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a browser would make of a page: its tags, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.texts.append(data)


def test_a_page_holds_its_pictures_and_escapes_its_text(tmp_path):
    odd = draw(tmp_path / '<script>"a" & b.png', np.zeros((30, 900), np.uint8), "PNG")
    hits = pd.DataFrame(
        {"rank": [1], "score": [0.5], "case": ["<b>egg</b>"], "id": [os.fspath(odd)]}
    )
    page = Page(make_page(os.fspath(odd), hits, 7))
    assert {tag for tag, _ in page.tags} & {"script", "link", "a", "iframe"} == set()
    assert "<b>egg</b>" in "".join(page.texts)
    assert page.texts.count(os.fspath(odd)) == 2
    pictures = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 2
    assert all(source.startswith("data:image/jpeg;base64,/9j/") for source in pictures)


@pytest.mark.slow
def test_find_writes_the_best_hits_in_order(field, model, tmp_path, capsys):
    drawing = next((field / "drawings").rglob("d0.png"))
    out = tmp_path / "hits.html"
    assert call("find", model, drawing, field / "images", "-k", 3, "-o", out) == 0
    assert "3 of 24 images" in capsys.readouterr().out
    paths = np.array(sorted(map(str, (field / "images").rglob("*.png"))))
    scores = PairMatcher.load(model).similarity_matrix(paths, [str(drawing)])[:, 0]
    best = paths[np.argsort(-scores, kind="stable")[:3]].tolist()
    shown = [text for text in Page(out.read_text()).texts if text in set(paths)]
    assert shown == best


# ---- clean ---------------------------------------------------------------------------------------


def sheet():
    """Draw a dark line on shaded paper."""
    paper = np.linspace(150, 230, 120) * np.ones((80, 1))
    paper[38:42, 20:100] *= 0.4
    return paper.astype(np.uint8)


def test_scans_become_drawings_in_their_subfolders(tmp_path, capsys):
    draw(tmp_path / "scans" / "egg" / "a.jpg", sheet())
    draw(tmp_path / "scans" / "egg" / "blank.png", np.full((80, 120), 200, np.uint8))
    (tmp_path / "scans" / "egg" / "broken.png").write_bytes(b"\x89PNG")
    out = tmp_path / "out"
    assert call("clean", tmp_path / "scans", "-o", out) == 1
    assert [path.relative_to(out) for path in out.rglob("*.*")] == [Path("egg", "a.png")]
    with Image.open(out / "egg" / "a.png") as image:
        pixels = np.asarray(image)
    assert set(np.unique(pixels)) == {0, 255} and pixels.shape[1] > 70
    told = capsys.readouterr()
    assert told.out.startswith("Cleaned 1 of 3 scans")
    assert "blank.png: no ink" in told.err and "broken.png: broken" in told.err


def test_no_scan_is_overwritten(tmp_path, capsys):
    scan = draw(tmp_path / "a.png", sheet())
    before = scan.read_bytes()
    assert call("clean", scan, "-o", tmp_path) == 1
    assert scan.read_bytes() == before
    assert "a.png is a scan: give another folder" in capsys.readouterr().err
    message = refuse(capsys, "clean", tmp_path, "-o", tmp_path / "deep" / "out")
    assert "would take what is clean for scans" in message
    assert "would overwrite" in refuse(capsys, "clean", tmp_path, "-o", tmp_path)


def test_two_scans_of_one_target_are_told(tmp_path):
    scans = [str(draw(tmp_path / name)) for name in ("a.png", "a.bmp")]
    faults = []
    assert plan_targets(scans, "out", faults) == {scans[0]: Path("out", "a.png")}
    assert faults[0]["file"] == scans[1] and "already that of" in faults[0]["detail"]


def test_png_holds_the_pixels():
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    with Image.open(io.BytesIO(as_png(pixels))) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), pixels)


# ---- review --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_review_queues_the_images_of_a_table(field, model, tmp_path, capsys):
    out = tmp_path / "queue.csv"
    columns = "--images", "photo", "--case", "stage", "--folder", field / "images"
    assert call("review", model, field / "labels.csv", *columns, "-o", out) == 0
    queue = pd.read_csv(out)
    assert queue["label_error"].is_monotonic_decreasing
    assert len(queue) == 24
    assert [Path(path).parts[-3] for path in queue["path"]] == queue["label"].tolist()
    doubtful = (queue["label_error"] > 0.5).sum()
    assert capsys.readouterr().out.startswith(f"Of {doubtful} of 24 images")


# ---- how it ends ---------------------------------------------------------------------------------


def test_wrong_calls_end_with_two(field, tmp_path, capsys):
    images, drawings, table = field / "images", field / "drawings", field / "labels.csv"
    out = "-o", tmp_path / "m.skpair"
    for arguments, message in [
        ([], "required: COMMAND"),
        (["fit", images, *out], "required: --drawings"),
        (["fit", tmp_path / "none", "--drawings", drawings, *out], "does not exist"),
        (["fit", table, "--drawings", drawings, *out], "needs --images COLUMN and --case"),
        (["fit", images, "--drawings", table, *out], "is a file, but a folder is expected"),
        (["fit", images, "--drawings", drawings, "--case", "a", *out], "belongs to a table"),
        (["fit", images, "--drawings", drawings, "--drawing-names", "a", *out], "--drawing-names"),
        (["fit", images, "--drawings", drawings, "--groups", "a", *out], "--groups subfolder"),
        (["fit", images, "--drawings", drawings, "--epochs", "0", *out], "1 or more"),
        (["fit", images, "--drawings", drawings, "-o", tmp_path / "no" / "m"], "does not exist"),
        (["fit", images, "--drawings", drawings, "-o", tmp_path], "is a folder, but a file"),
        (["name", images, images, *out], "is a folder, but a file is expected"),
        (["find", table, table, images, "-k", "x", *out], "not 'x'"),
        (["review", table, table, "--images", "a", "--case", "b", "-o", table], "would overwrite"),
    ]:
        assert message in refuse(capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_faults_of_data_are_one_line_and_end_with_one(field, tmp_path, capsys):
    out = tmp_path / "names.csv"
    assert call("name", field / "labels.csv", field / "images", "-o", out) == 1
    told = capsys.readouterr().err
    assert told.startswith("skpair: ") and "labels.csv" in told and "Traceback" not in told
    columns = "--images", "photograph", "--case", "stage", "--drawings", field / "drawings"
    assert call("fit", field / "labels.csv", *columns, "-o", out) == 1
    assert "has no column ['photograph']" in capsys.readouterr().err
    assert not out.exists()


def test_an_interruption_ends_with_130_and_leaves_no_file(tmp_path, capsys, monkeypatch):
    scans = [draw(tmp_path / f"{name}.png", sheet()) for name in "ab"]

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)  # while the first drawing is being written
    assert call("clean", *scans, "-o", tmp_path / "out") == 130
    assert list((tmp_path / "out").iterdir()) == []
    assert "interrupted" in capsys.readouterr().err


def test_warnings_take_one_line(tmp_path, capsys, monkeypatch):
    def warn(arguments):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("of what is odd", UserWarning, stacklevel=1)
        return []

    monkeypatch.setattr(commands, "clean", warn)
    assert call("clean", "a.png", "-o", tmp_path) == 0
    assert capsys.readouterr().err == "skpair: warning: of what is odd\n"


@pytest.mark.parametrize("command", ["fit", "name", "find", "clean", "review"])
def test_help_ends_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as ended:
        call(command, "--help")
    assert ended.value.code == 0
    assert f"example:\n  skpair {command} " in capsys.readouterr().out


def test_help_needs_no_torch():
    code = (
        "import sys\n"
        "from skpair.app.command_line import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    assert not {'torch', 'sklearn', 'pandas'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: skpair")


def test_the_entry_point_is_the_command():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    entry = project["scripts"]["skpair"]
    code = f"import pkgutil, sys; sys.exit(pkgutil.resolve_name({entry!r})())"
    for arguments, expected in ((["--version"], 0), (["fit"], 2)):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == expected
        assert done.stdout == (f"skpair {project['version']}\n" if expected == 0 else "")
        assert "Traceback" not in done.stderr
