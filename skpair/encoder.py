"""PairEncoder: pictures in, feature rows out."""

import warnings
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import nn

from .checks import NestedParameters, codes_by_kind, users_level, warn_of_lookalikes
from .learning import devices, encoding, schemes, towers
from .learning.parameters import check_encoding
from .rows import reading
from .rows.decoded import DecodedPictures
from .storage.checkpoint import Checkpoint
from .storage.encodings import make_cache
from .storage.fingerprints import fingerprint


class PairEncoder(
    NestedParameters, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Encode images and skeletons with two networks: the first stage of the method.

    Each kind has a network of its own (a *tower*). Unless it is frozen, `fit` trains it to name
    the cases; `transform` gives what it computes just before naming them.

    Parameters
    ----------
    image_encoder, skeleton_encoder : str or nn.Module, default="cnn"
        "cnn": a small residual CNN for pixels and files, a small MLP for feature rows.
        "identity": hand the values on. A name of a torchvision classification network, such as
        "resnet18": that network without its head. An `nn.Module`: called with float batches of
        shape (b, C, H, W) in 0..1 (or (b, p) feature rows), gives (b, width); it is copied.
    weights : None, str or path, default=None
        For torchvision networks: None starts at random; "DEFAULT" or another name of published
        weights downloads them once; a path names a state dict.
    frozen : bool or "auto", default="auto"
        Whether the towers stay as they start. Then there is nothing to learn, and `y` is not
        needed. "auto" freezes a tower with given `weights`, a module and "identity".
    image_size : int, (int, int) or None, default=None
        Height and width that pictures are brought to. None keeps pixels as they are, and reads
        files as squares of the median of their longer sides, at most 96; `layout_` tells.
    resize : {"pad", "stretch"}, default="pad"
        How: whole, amid the shade of their border (drawings: amid blank ground), or distorted.
    ink : {"auto", "dark", "light"}, default="auto"
        Which shade of a skeleton is ink, in files and in skeletons given apart from images:
        "auto" decides drawing by drawing for the rarer. In rows of pixels, not zero is ink.
    contrast : {"full", "own"}, default="full"
        What becomes black and white in an image, as `stack_pairs` has it.
    crop_bottom : int or float, default=0
        Rows that are cut off every image at the bottom, in files and in images given apart, where
        scale bars and legends are burnt in: pixels of the file, or a share below 1.
    sampler : {"balanced", "natural"}, default="balanced"
        "balanced": every step holds every case equally often. "natural": rows as they come.
    max_epochs : int, default=35
        Passes over the rows, of at least 8 steps each.
    batch_size : int, default=64
        Rows in a step of the training, and at most in a batch of `transform`.
    lr : float, default=0.003
        Highest learning rate: it rises at first and falls to zero along a cosine.
    weight_decay : float, default=0.05
        Weight decay of AdamW.
    augment : "auto", None or callable, default="auto"
        Applied to whole batches in training, to each kind independently. "auto": random rotation,
        flip, scale and shift of pictures, nothing for feature rows. A callable takes and gives
        float tensors of shape (b, C, H, W).
    memory : str, path-like, joblib.Memory, EncodingCache or None, default=None
        Folder that keeps the encodings of frozen towers, row by row, for other fits, workers and
        runs; see :class:`~skpair.storage.EncodingCache`. A tower that starts at random needs an
        integer as `random_state` to be the same again.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Of the towers' operations; weights and encodings are float32. "auto": bfloat16 for pictures
        on a GPU that has it, else float32.
    callbacks : list of skorch callbacks or None, default=None
        Added to those of the training. One of your own that ends a training raises
        `skpair.learning.StopTraining`.
    device : str, default="auto"
        Where to compute, as torch names it; "auto" takes a GPU if there is one.
    random_state : int, RandomState instance or None, default=None
        Start weights, order of rows, augmentation.
    verbose : int, default=0
        1 shows progress bars (of files that are decoded, of pictures that are encoded, and of the
        batches of an epoch), and a line an epoch.

    Attributes
    ----------
    towers_ : nn.Module
        Both networks, `towers_.image` and `towers_.skeleton`.
    history_ : dict of skorch.history.History
        Losses by epoch and batch, of the towers that were trained: "image", "skeleton".
    classes_ : ndarray of shape (n_cases,)
        The cases; only where `y` was needed.
    width_ : int
        Columns of each kind's encodings.
    layout_ : Layout
        Layout of the rows seen in `fit`.
    n_features_in_ : int
        Channels (pixels) or columns of X.

    See Also
    --------
    PairMatcher : Trains the second stage on these encodings.

    Examples
    --------
    >>> from skpair import PairEncoder
    >>> from skpair.datasets import load_digit_pairs
    >>> X, y = load_digit_pairs(return_X_y=True)
    >>> encoder = PairEncoder(max_epochs=1, random_state=0)
    >>> encoder.fit_transform(X[:200], y[:200]).shape
    (200, 256)
    """

    def __init__(
        self,
        image_encoder="cnn",
        skeleton_encoder="cnn",
        *,
        weights=None,
        frozen="auto",
        image_size=None,
        resize="pad",
        ink="auto",
        contrast="full",
        crop_bottom=0,
        sampler="balanced",
        max_epochs=35,
        batch_size=64,
        lr=0.003,
        weight_decay=0.05,
        augment="auto",
        memory=None,
        precision="auto",
        callbacks=None,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.image_encoder = image_encoder
        self.skeleton_encoder = skeleton_encoder
        self.weights = weights
        self.frozen = frozen
        self.image_size = image_size
        self.resize = resize
        self.ink = ink
        self.contrast = contrast
        self.crop_bottom = crop_bottom
        self.sampler = sampler
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.augment = augment
        self.memory = memory
        self.precision = precision
        self.callbacks = callbacks
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y=None, *rest):
        """Train the towers to name the cases, unless they are frozen.

        Parameters
        ----------
        X : array-like or DataFrame
            Rows of pairs: pixels (n, C + 1, H, W), files (n, 2) or features (n, p); or images,
            followed by skeletons and cases: ``fit(X_img, X_skel, y)``, or, for two sets of any
            size, ``fit(X_img, X_skel, y_img, y_skel)``.
        y : array-like of shape (n,), default=None
            Case of each row; not needed where both towers are frozen.
        *rest : array-like
            The cases, in the other forms.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If a parameter, X or y is not as described.
        OSError
            If a file is missing or broken; it is named, with its row.
        """
        how = reading.how_of(self)
        X, y, sets = reading.as_pairs(X, y, rest, **how)
        how["n_skeletons"] = None if sets is None else len(sets[1])
        self.__dict__.pop("towers_", None)  # an interrupted fit leaves the estimator unfitted
        self.check_parameters()
        with DecodedPictures() as kept:
            how |= {"kept": kept if self.learns() else None, "verbose": self.verbose}
            *halves, self.layout_, y = reading.fit_pairs(self, X, y, **how)
            if not self.learns():
                return self.fit_halves(*halves)
            cases, codes = codes_by_kind(y, sets)
            warn_of_lookalikes(cases)
            halves, codes = reading.distinct_halves(halves, codes)
            return self.fit_halves(*halves, codes, cases)

    def fit_halves(
        self,
        images,
        skeletons,
        codes=None,
        cases=None,
        *,
        checkpoint=None,
        learn=True,
        background=None,
    ):
        """Fit on rows that were checked and read already, for estimators that have done so.

        They also set `layout_` and what else tells of the columns.

        Parameters
        ----------
        images, skeletons : Half
            The rows.
        codes : dict of str to ndarray of int, or None
            Positions of their cases in `cases`, by kind; not needed where both towers are frozen.
        cases : ndarray of shape (n_cases,) or None
            The cases.
        checkpoint : Checkpoint or None
            Keeps the state of the training, and gives the seed.
        learn : bool, default=True
            Whether towers that are not frozen learn to name the cases, or stay as they start.
        background : Half or None
            Images of no case, which the tower of images learns to tell from the others.

        Returns
        -------
        self : object
        """
        self.__dict__.pop("towers_", None)
        self._warn_of_chance()
        checkpoint = checkpoint or Checkpoint(None, self, codes)
        seed = checkpoint.seed("encoder", self.random_state)
        kinds = self._learning_kinds() if learn else []
        with devices.seeded(seed, devices.resolve_device(self.device)):
            dual, width = self._make_towers(images, skeletons)
            history = {}
            if kinds:
                self.classes_ = cases
                halves = {"image": images, "skeleton": skeletons}
                history = schemes.name_cases(
                    self,
                    dual,
                    width,
                    kinds,
                    halves,
                    codes,
                    len(cases),
                    seed,
                    checkpoint,
                    background if "image" in kinds else None,
                )
        self.history_ = history
        self.width_ = width
        self.towers_ = dual.eval()
        return self

    def transform(self, X, *rest):
        """Encode both kinds of every row.

        Parameters
        ----------
        X : array-like or DataFrame
            Rows of pairs, in the layout of `fit`; or images, followed by skeletons.
        *rest : array-like
            The skeletons, in the form ``transform(X_img, X_skel)``.

        Returns
        -------
        ndarray of shape (n, 2 * d), float32
            The first half encodes the image, the rest the skeleton; `d` is the width of the wider
            tower, the other is padded with zeros.
        """
        check_is_fitted(self)
        return np.hstack(self.encode_halves(*reading.pair_halves(self, X, rest)))

    def encode_images(self, X_img):
        """Encode images alone.

        Parameters
        ----------
        X_img : array-like or DataFrame
            Images, or rows of pairs, of which the image is taken.

        Returns
        -------
        ndarray of shape (n, d), float32
            The first half of the columns of `transform`.
        """
        check_is_fitted(self)
        (encoded,) = self.encode_halves(reading.image_half(self, X_img))
        return encoded

    def encode_skeletons(self, X_skel):
        """Encode skeletons alone.

        Parameters
        ----------
        X_skel : array-like or DataFrame
            Skeletons, or rows of pairs, of which the skeleton is taken.

        Returns
        -------
        ndarray of shape (m, d), float32
            The second half of the columns of `transform`.
        """
        check_is_fitted(self)
        (encoded,) = self.encode_halves(reading.skeleton_half(self, X_skel))
        return encoded

    def encode_halves(self, *halves, verbose=0):
        """Encode rows that were checked and read already, whatever `set_output` says.

        Parameters
        ----------
        *halves : Half
            Images or skeletons, each of any number of rows.
        verbose : int, default=0
            1 shows progress bars, whatever the parameter says.

        Returns
        -------
        list of ndarray of shape (n, d), float32
            Of each half.
        """
        verbose = verbose or self.verbose
        return [self._encode(getattr(self.towers_, half.kind), half, verbose) for half in halves]

    def check_parameters(self):
        """Raise unless the parameters are as described; `fit` begins with it."""
        check_encoding(self)
        make_cache(self.memory)
        how = reading.how_of(self)
        reading.check_reading(how["image_size"], how["look"])

    def learns(self):
        """Tell whether `fit` trains a tower: not all are frozen."""
        return bool(self._learning_kinds())

    def _encoders(self):
        return {"image": self.image_encoder, "skeleton": self.skeleton_encoder}

    def _warn_of_chance(self):
        """Warn where frozen towers start at random, anew in every fit, and are to be kept."""
        encoders = self._encoders()
        by_chance = self.weights is None and any(
            frozen and isinstance(encoders[kind], str) and encoders[kind] != "identity"
            for kind, frozen in self._frozen_kinds().items()
        )
        fixed = isinstance(self.random_state, Integral)
        if by_chance and not fixed and make_cache(self.memory) is not None:
            warnings.warn(
                "memory will not find these encodings again: the frozen towers start at random, "
                "so every fit has others. Give random_state an integer, or weights.",
                UserWarning,
                stacklevel=users_level(),
            )

    def _frozen_kinds(self):
        """Say of each kind whether its tower stays as it starts."""
        kinds = self._encoders()
        if self.frozen != "auto":
            return {k: bool(self.frozen) or e == "identity" for k, e in kinds.items()}
        given = self.weights is not None
        return {
            k: isinstance(e, nn.Module) or e == "identity" or (given and e != "cnn")
            for k, e in kinds.items()
        }

    def _learning_kinds(self):
        return [kind for kind, frozen in self._frozen_kinds().items() if not frozen]

    def _make_towers(self, images, skeletons):
        image, image_width = towers.make_tower(
            self.image_encoder, self.weights, images, self._recall_width(images)
        )
        skeleton, skeleton_width = towers.make_tower(
            self.skeleton_encoder, self.weights, skeletons, self._recall_width(skeletons)
        )
        dual = towers.DualEncoder.of_equal_width(image, image_width, skeleton, skeleton_width)
        return dual, max(image_width, skeleton_width)

    def _recall_width(self, half):
        cache = self._cache(half.kind)
        if cache is None:
            return None
        return lambda tower, measure: cache.width(fingerprint(tower, half.shape), measure)

    def _encode(self, tower, half, verbose):
        """Encode rows, each distinct picture once."""
        device = devices.resolve_device(self.device)
        precision = devices.resolve_precision(self.precision, device, half.layout)

        def encode(part):
            return encoding.encode(tower, part, self.batch_size, device, precision, verbose)

        cache = self._cache(half.kind)
        if cache is not None:  # which knows rows that are the same by itself
            how = half.reading(), device, precision
            return cache.encode(fingerprint(tower, *how), half, encode)
        if len(half) == 1 or half.layout == "features":
            return encode(half)
        first, inverse = half.distinct()
        return encode(half.take(first))[inverse] if len(first) < len(half) else encode(half)

    def _cache(self, kind):
        """Give the cache for a kind; towers that learn are new in every fit, and have none."""
        return make_cache(self.memory) if self._frozen_kinds()[kind] else None

    @property
    def _n_features_out(self):
        return 2 * self.width_

    def __sklearn_is_fitted__(self):
        """Whether `fit` has come to its end."""
        return hasattr(self, "towers_")

    def __sklearn_tags__(self):
        """Tell scikit-learn what the estimator takes and gives."""
        tags = super().__sklearn_tags__()
        tags.target_tags.required = self.learns()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
