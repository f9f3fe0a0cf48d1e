"""What `fit` leaves behind to decide by: from pictures judged as if they had not been learned."""

from dataclasses import dataclass, field, replace

import numpy as np

from ..learning import schemes
from ..learning.splits import Split
from ..rows.layouts import KINDS
from . import thresholds
from .familiar import Familiar
from .gallery import Gallery
from .judge import Judge, temperature_of
from .new_cases import lead_of_known, offset_of

#: Pictures of a kind that set the thresholds, at most.
_ASKED = 500
#: Share of the unseen images of known cases that may be called unknown, and that a case which is
#: added later may take.
_UNKNOWN, TAKEN = 0.05, 0.1
#: Of a rehearsal: passes over the rows, the share of each case that is asked, and of the cases that
#: are left out; how many of their skeletons are added.
_EPOCHS, _THIRD, _QUARTER, _DRAWINGS = 15, 1 / 3, 1 / 4, 10


@dataclass(eq=False)
class Decided:
    """What `fit` leaves behind to decide by; the attributes of a PairMatcher tell what each is."""

    gallery: Gallery
    familiar: dict  # of Familiar, by kind
    judged_by: str
    threshold: float
    novelty_threshold: float
    new_case_offset: float | None = None
    new_case_images: np.ndarray | None = None


@dataclass(eq=False)
class _Testimony:
    """What pictures tell that were judged as if they had not been learned."""

    counts: thresholds.PairCounts
    novelty: dict  # by kind: ndarray of shape (n,), by their embeddings
    signs: dict  # by kind: ndarray of shape (n, k), by their encodings
    lead: list = field(default_factory=list)  # of known cases over each that was left out: (n,)


def decide(settings, learned, split, judging, ids, *, rehearse):
    """Choose by pictures held out; where there are none, by a rehearsal, or else by those learned.

    Parameters
    ----------
    settings : PairMatcher
        Its parameters.
    learned : Learned
        The layers, and what they take.
    split : Split
        Which pictures they learned from.
    judging : dict
        The parameters of a Judge that a PairMatcher gives.
    ids : list of sequence
        What the images, and the skeletons, are known by.
    rehearse : bool
        Whether the encodings tell of pictures that were not learned, as learned towers' do not.

    Returns
    -------
    Decided
    """
    plain = _judge(learned, settings, judging)
    known = _embed(plain, learned, split, split.train)
    judge = replace(plain, gallery=Gallery(split.cases, *known))
    familiar = _familiar(judge, learned, split.codes_of(split.train), split.train)
    told, unseen, judged_by = None, None, "rehearsal"
    any_held_out = len(split.held_out["image"]) > 0
    if rehearse and not any_held_out:
        told = _rehearse(settings, learned, split, judging)
    if told is None:
        judged_by = "held_out" if any_held_out else "training"
        asked = {kind: _sample(split, kind) for kind in KINDS}
        embedded = _embed(judge, learned, split, asked)
        known_ones = [kind for kind in KINDS if not len(split.held_out[kind])]
        told = _ask(judge, familiar, learned, embedded, asked, known_ones)
    if any_held_out:
        unseen = embedded[0]
        known = _embed(judge, learned, split, dict.fromkeys(KINDS, slice(None)))
    for kind in KINDS:
        familiar[kind] = familiar[kind].on_scale_of(told.novelty[kind], told.signs[kind])
    novelty = np.maximum(told.novelty["image"], familiar["image"].novelty(told.signs["image"]))
    return Decided(
        gallery=Gallery(split.cases, *known, *ids),
        familiar=familiar,
        judged_by=judged_by,
        threshold=told.counts.best_threshold(),
        novelty_threshold=thresholds.best_novelty_threshold(novelty, _UNKNOWN),
        new_case_offset=_usual_offset(told.lead),
        new_case_images=unseen,
    )


def _judge(learned, settings, judging):
    temperature = temperature_of(learned.loss, settings.temperature)
    return Judge(learned.layers, learned.loss, pair_temperature=temperature, **judging)


def _embed(judge, learned, split, rows):
    """Embed some rows of what was learned from: images, their codes, skeletons, their codes."""
    codes = split.codes_of(rows)
    return (
        judge.embed(learned.images.take(rows["image"])),
        codes["image"],
        judge.embed(learned.skeletons.take(rows["skeleton"])),
        codes["skeleton"],
    )


def _familiar(judge, learned, codes, rows):
    halves = {"image": learned.images, "skeleton": learned.skeletons}
    known = {}
    for kind, half in halves.items():
        of_rows = np.unique(codes[kind], return_inverse=True)[1]
        background = None
        if kind == "image" and learned.background is not None:
            background = judge.standardize(learned.background)
        known[kind] = Familiar.of(judge.standardize(half.take(rows[kind])), of_rows, background)
    return known


def _sample(split, kind):
    """Choose the pictures of one kind that are asked: of those held out, or else of all."""
    asked = split.held_out[kind] if len(split.held_out[kind]) else split.train[kind]
    codes = split.codes[kind]
    if len(asked) > _ASKED:
        asked = np.random.RandomState(split.seed).permutation(asked)
        one_of_each = asked[np.unique(codes[asked], return_index=True)[1]]
        asked = np.union1d(asked[:_ASKED], one_of_each)
    return asked


def _ask(judge, familiar, learned, embedded, rows, known_ones=()):
    """Let pictures tell; those of the kinds `known_ones` are among the known ones themselves."""
    told = _Testimony(judge.count_pairs(*embedded), {}, {})
    halves = (learned.images, learned.skeletons)
    for half, queries in zip(halves, (embedded[0], embedded[2]), strict=True):
        kind, own = half.kind, rows[half.kind]
        themselves = own if kind in known_ones else None
        told.novelty[kind] = judge.novelty(queries, kind=kind, own_rows=themselves)
        told.signs[kind] = familiar[kind].signs(judge.standardize(half.take(own)))
    return told


# ---- a rehearsal ---------------------------------------------------------------------------------


def _rehearse(settings, learned, split, judging):
    """Train layers on two thirds of the rows, without a quarter of the cases, and ask the rest.

    None where that leaves too little to learn from, or to ask.
    """
    rng = np.random.RandomState(split.seed)
    n_cases = len(split.cases)
    left_out = rng.permutation(n_cases)[: int(n_cases * _QUARTER)]
    rows, asked = {}, {}
    for kind, codes in split.codes.items():
        rows[kind], asked[kind] = _thirds(codes, left_out, rng)
    if min(len(np.unique(split.codes[kind][asked[kind]])) for kind in KINDS) < 2:
        return None
    kept = np.setdiff1d(np.arange(n_cases), left_out)
    codes = {kind: np.searchsorted(kept, split.codes[kind]) for kind in KINDS}
    short = Split(np.arange(len(kept)), codes, rows, asked, split.seed)
    shortened = _shorten(settings)
    tried = schemes.relearn(shortened, learned, short)
    judge = _judge(tried, settings, judging)
    judge = replace(judge, gallery=Gallery(short.cases, *_embed(judge, tried, short, rows)))
    familiar = _familiar(judge, tried, short.codes_of(rows), rows)
    asked = {kind: _sample(short, kind) for kind in KINDS}
    embedded = _embed(judge, tried, short, asked)
    told = _ask(judge, familiar, tried, embedded, asked)
    if judge.kinds == "images":
        return told  # nothing can be added by skeletons
    told.lead = [
        _lead_over(judge, tried, embedded[0], np.flatnonzero(split.codes["skeleton"] == case))
        for case in left_out
    ]
    return told


def _thirds(codes, left_out, rng):
    """Give rows to learn from, and a third of each case to ask, of all cases but some."""
    shuffled = rng.permutation(np.flatnonzero(~np.isin(codes, left_out)))
    by_case = shuffled[np.argsort(codes[shuffled], kind="stable")]
    place = np.arange(len(by_case)) - np.searchsorted(codes[by_case], codes[by_case])
    asked = place < (np.bincount(codes)[codes[by_case]] * _THIRD).astype(int)
    return np.sort(by_case[~asked]), np.sort(by_case[asked])


def _shorten(settings):
    less = {"max_epochs": min(_EPOCHS, settings.max_epochs), "early_stopping": False}
    quiet = {"callbacks": None, "verbose": 0}
    return type(settings)(**settings.get_params(deep=False) | less | quiet)


def _lead_over(judge, tried, images, drawings):
    """Say by how much known cases lead over one that is added by some of its drawings: (n,)."""
    added = judge.embed(tried.skeletons.take(drawings[:_DRAWINGS]))
    name = np.full(len(added), len(judge.cases))  # they are codes here
    judge = replace(judge, gallery=judge.gallery.with_skeletons(added, name))
    logits = judge.logits(judge.score(images, "image"))
    return lead_of_known(logits, judge.gallery.is_new)[:, 0]


def _usual_offset(leads):
    """Find the offset by which a case takes the share, in the median over those left out."""
    if not leads:
        return None
    return float(np.median([offset_of(lead, TAKEN) for lead in leads]))
