"""PairMatcher: the scikit-learn face of matching images with skeletons."""

import copy
import warnings
from numbers import Integral, Real

import numpy as np
import torch
from scipy.special import expit, softmax
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_consistent_length, check_is_fitted
from torch import nn

from . import gallery, pairs, persistence, towers, training
from .checkpoint import Checkpoint
from .decisions import Decisions
from .encoder import PairEncoder, check_cases, warn_of_lookalikes
from .losses import LOSSES, MatchingLoss
from .sampling import PairSampler

#: Rows that set the thresholds in `fit`, at most.
_THRESHOLD_ROWS = 500


class PairMatcher(
    Decisions,
    training.NestedParameters,
    ClassNamePrefixFeaturesOutMixin,
    ClassifierMixin,
    TransformerMixin,
    BaseEstimator,
):
    r"""Match images with skeletons of the same case, by N-pair loss.

    Two fully connected layers, one for images and one for skeletons, put both kinds into one
    space, where each image is close to the skeletons of its case and far from those of all other
    cases. A new image is named by the known examples (the *gallery*) that it is closest to.

    `predict`, `predict_proba`, `decision_function` and `transform` look at the image half of X
    only: to name an image by its own skeleton would leak the answer.

    Parameters
    ----------
    encoder : PairEncoder or None, default=None
        Turns pictures into feature rows. None means a default `PairEncoder` for pixels and files,
        and none at all for feature rows. It is cloned; a `random_state` of None takes the
        matcher's.
    training : {"two_stage", "joint", "fine_tune"}, default="two_stage"
        "two_stage": the encoder learns to name the cases and is frozen, then the layers learn on
        its encodings. "joint": towers and layers learn together from the start, with the
        encoder's `max_epochs`, `batch_size`, `lr`, `weight_decay` and `augment`, and the matcher's
        `sampler` and `callbacks`. "fine_tune":
        two stages, then half as many epochs together at a tenth of that rate.
    embedding_dim : int, default=64
        Columns of the embeddings.
    hidden_dims : tuple of int, default=()
        Units of hidden layers before each fully connected layer.
    dropout : float, default=0.3
        Probability with which an encoding's column is dropped in training.
    loss : str or nn.Module, default="n_pair"
        "n_pair", "info_nce", "sup_con" and "sigmoid" compare all rows of a batch;
        "binary_cross_entropy", "contrastive" and "triplet" are the traditional pairwise ones. A
        module is called as ``loss(image_emb, skeleton_emb, y_image, y_skeleton)``, gives a scalar,
        and is copied.
    within_kind : float, default=0.5
        Weight of the same loss among the images of a batch, and among its skeletons, beside the
        loss that compares images with skeletons (the intra-modal loss of cross-modal retrieval).
        0 is the published method; more makes the known images better examples. Of no effect on
        "binary_cross_entropy", nor on a module without a true attribute `symmetric`.
    similarity : {"cosine", "dot"}, default="cosine"
        How embeddings are compared.
    temperature : float, default=0.1
        Divides similarities, in the losses that compare all rows and in probabilities.
    margin : float or None, default=None
        Of the contrastive and the triplet loss, in units of Euclidean distance. None means what
        does well on unit vectors: 2 and 0.2.
    embedding_l2 : float, default=0.002
        Weight of the mean squared length of the embeddings; of no effect under the cosine.
    sampler : {"balanced", "natural"}, default="balanced"
        "balanced": every step holds every case equally often. "natural": rows as they come.
    max_epochs : int, default=50
        Passes over the encodings, of at least 8 steps each.
    batch_size : int, default=128
        Rows in a step.
    lr : float, default=0.003
        Highest learning rate: it rises at first and falls to zero along a cosine.
    weight_decay : float, default=0.01
        Weight decay of AdamW.
    early_stopping : bool, default=False
        Whether to hold out rows, and to stop when their loss no longer falls.
    validation_fraction : float, default=0.1
        Fraction of each case to hold out, under `early_stopping`.
    n_iter_no_change : int, default=10
        Epochs without a lower loss after which to stop, under `early_stopping`.
    gallery : {"both", "skeletons", "images"}, default="both"
        Which known examples name an image. "skeletons" is the published method. The loss
        "binary_cross_entropy" compares across kinds only: images with the known skeletons.
    aggregate : {"mean", "max"}, default="mean"
        Compare with the mean of a case's known examples, or with the most similar one.
    unknown_label : str, int, float or None, default=None
        What `predict` says where no known case fits, that is, where `novelty_score` exceeds
        `novelty_threshold_`. A label of the kind of the cases, but none of them. None: `predict`
        always names a case.
    checkpoint : str, path-like or None, default=None
        Folder that keeps the state of `fit` after every epoch. A fit that was broken off, even
        killed, and is run again with the same parameters and rows, goes on from there, and ends
        with the same weights to the bit (on the same machine, with as many threads). Others are
        refused. It is deleted when the fit has come to its end. For one fit at a time, so not for
        searches, whose candidates would refuse one another's state; and not with `callbacks`.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Of the layers' operations, and of a default encoder's; weights, embeddings and losses are
        float32. "auto": float32 for feature rows, and where towers learn together with the layers,
        what the encoder's `precision` says.
    callbacks : list of skorch callbacks or None, default=None
        Added to those of the training of the layers.
    device : str, default="auto"
        Where to compute, as torch names it; "auto" takes a GPU if there is one.
    random_state : int, RandomState instance or None, default=None
        Start weights, order of rows, dropout, rows held out.
    verbose : int, default=0
        1 shows a progress bar and a line an epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_cases,)
        The cases.
    encoder_ : PairEncoder or None
        The fitted encoder.
    gallery_ : Gallery
        Embeddings of the rows of `fit`, by case, and of the skeletons added since.
    threshold_ : float
        `pair_proba` from which on `predict_pairs` says yes: of the best balanced accuracy over
        pairs of the rows held out under `early_stopping`, else of (at most 500) training rows,
        which is optimistic; `calibrate_threshold` sets it from rows that were not learned. It
        belongs to the `gallery` and `aggregate` that it was set with, as `novelty_threshold_` does.
    case_thresholds_ : ndarray of shape (n_cases,) or None
        The same for each case, after ``calibrate_threshold(..., per_case=True)``; then these
        decide, and `threshold_` only for cases added since.
    novelty_threshold_ : float
        `novelty_score` above which an image counts as unknown: that of 5 % of the same rows,
        which is optimistic, too; `calibrate_novelty` sets it.
    temperature_ : float
        Divides the scores in `predict_proba`: the parameter `temperature` of `fit`, until
        `calibrate_probabilities` sets it. (1 for the loss "binary_cross_entropy".)
    pair_temperature_ : float
        The same in `pair_proba`, for which `threshold_` is set: `temperature_`, but for matchers
        that an earlier version has calibrated and saved.
    calibration_error_ : dict
        After `calibrate_probabilities`: the expected calibration error "before" and "after".
    net_ : skorch.NeuralNet
        The net that trained the layers (with the towers, unless in two stages).
    history_ : skorch.history.History
        Its losses by epoch and batch.
    n_iter_ : int
        Number of its epochs.
    left_out_ : list of str
        Only of a matcher that was loaded: parameters that its file does not hold.
    layout_ : Layout
        Layout of the rows seen in `fit`.
    n_features_in_ : int
        Channels (pixels) or columns of X.

    References
    ----------
    Martinel et al., "Copepods Image-Skeleton Pairing with N-Pair Loss", DSP 2025,
    doi 10.1109/DSP65409.2025.11075170.

    Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", NeurIPS 2016.

    Examples
    --------
    >>> import numpy as np
    >>> from skpair import PairMatcher
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=60)
    >>> X = rng.normal(size=(60, 8)) + 3 * np.eye(8)[y] + 3 * np.eye(8)[y + 4]
    >>> matcher = PairMatcher(random_state=0).fit(X, y)
    >>> matcher.score(X, y) > 0.9
    True
    >>> matcher.transform(X).shape
    (60, 64)
    """

    #: Parameters that, beside the data, decide what `fit` leaves behind.
    _SHAPING = (
        "training",
        "embedding_dim",
        "hidden_dims",
        "dropout",
        "loss",
        "within_kind",
        "similarity",
        "temperature",
        "margin",
        "embedding_l2",
    )

    def __init__(
        self,
        encoder=None,
        *,
        training="two_stage",
        embedding_dim=64,
        hidden_dims=(),
        dropout=0.3,
        loss="n_pair",
        within_kind=0.5,
        similarity="cosine",
        temperature=0.1,
        margin=None,
        embedding_l2=0.002,
        sampler="balanced",
        max_epochs=50,
        batch_size=128,
        lr=0.003,
        weight_decay=0.01,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        gallery="both",
        aggregate="mean",
        unknown_label=None,
        checkpoint=None,
        precision="auto",
        callbacks=None,
        device="auto",
        random_state=None,
        verbose=0,
    ):
        self.encoder = encoder
        self.training = training
        self.embedding_dim = embedding_dim
        self.hidden_dims = hidden_dims
        self.dropout = dropout
        self.loss = loss
        self.within_kind = within_kind
        self.similarity = similarity
        self.temperature = temperature
        self.margin = margin
        self.embedding_l2 = embedding_l2
        self.sampler = sampler
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.gallery = gallery
        self.aggregate = aggregate
        self.unknown_label = unknown_label
        self.checkpoint = checkpoint
        self.precision = precision
        self.callbacks = callbacks
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y, *rest):
        """Learn to tell whether an image and a skeleton belong to the same case.

        Parameters
        ----------
        X : array-like or DataFrame
            Rows of pairs: pixels (n, C + 1, H, W), files (n, 2) or features (n, p); or images,
            followed by skeletons and cases: ``fit(X_img, X_skel, y)``.
        y : array-like of shape (n,)
            Case of each row.
        *rest : array-like
            The cases, in the form ``fit(X_img, X_skel, y)``.

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
        persistence.warn_of_left_out(self)
        self.__dict__.pop("net_", None)  # an interrupted fit leaves the estimator unfitted
        encoder = self._new_encoder(X)
        reading = PairEncoder() if encoder is None else encoder
        X, y = pairs.as_pairs(X, y, rest, image_size=reading.image_size, ink=reading.ink)
        self._check_parameters(encoder)
        images = skeletons = None  # what an encoder will give
        if encoder is None:
            images, skeletons, self.layout_, y = pairs.fit_pairs(self, X, y)
        elif y is not None:
            check_consistent_length(X, y)
        self.classes_, codes = check_cases(y)
        warn_of_lookalikes(self.classes_)
        self._check_unknown_label()
        with Checkpoint(self.checkpoint, self, codes) as checkpoint:
            self.net_ = self._learn(encoder, X, images, skeletons, codes, checkpoint)
        self.__dict__.pop("left_out_", None)
        return self

    def predict(self, X):
        """Name the case of each image.

        Parameters
        ----------
        X : array-like or DataFrame
            Images alone, or rows of pairs, of which only the image is looked at.

        Returns
        -------
        ndarray of shape (n,)
            Labels out of `classes_`; `unknown_label`, if there is one, where no known case fits.
        """
        return self._name(self._embed_images(X), "image")

    def predict_proba(self, X):
        """Give the probability of each case for each image.

        Parameters
        ----------
        X : array-like or DataFrame
            Images alone, or rows of pairs, of which only the image is looked at.

        Returns
        -------
        ndarray of shape (n, n_cases), float32
            A softmax of the similarities over `temperature_`; rows sum to one.
        """
        scores = self._case_scores(self._embed_images(X), "image")
        return self._probabilities(scores, self.temperature_)

    def decision_function(self, X):
        """Give the similarity of each image to the known examples of each case.

        Parameters
        ----------
        X : array-like or DataFrame
            Images alone, or rows of pairs, of which only the image is looked at.

        Returns
        -------
        ndarray of shape (n, n_cases) or (n,), float32
            For two cases, the similarity to the second minus that to the first. With the loss
            "binary_cross_entropy", mean probabilities of a pair take the place of similarities.
        """
        scores = self._case_scores(self._embed_images(X), "image")
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def transform(self, X):
        """Embed images.

        Parameters
        ----------
        X : array-like or DataFrame
            Images alone, or rows of pairs, of which only the image is looked at.

        Returns
        -------
        ndarray of shape (n, embedding_dim), float32
            Of length one under the cosine.
        """
        return self._embed_images(X)

    def embed_skeletons(self, X_skel):
        """Embed skeletons in the same space as images.

        Parameters
        ----------
        X_skel : array-like or DataFrame
            Skeletons alone, or rows of pairs, of which only the skeleton is looked at.

        Returns
        -------
        ndarray of shape (m, embedding_dim), float32
        """
        check_is_fitted(self)
        if self.encoder_ is None:
            half = pairs.skeleton_half(self, X_skel)
        else:
            half = pairs.feature_half(self.encoder_.encode_skeletons(X_skel), "skeleton")
        return self._embed(half)

    def pair_score(self, X, *rest):
        """Give the similarity of each image with the skeleton of its row.

        Parameters
        ----------
        X : array-like or DataFrame
            Rows of pairs; or images, followed by as many skeletons.
        *rest : array-like
            The skeletons, in the form ``pair_score(X_img, X_skel)``.

        Returns
        -------
        ndarray of shape (n,), float32
            Cosine, dot product, or the classifier's logit (loss "binary_cross_entropy").
        """
        return gallery.paired_similarity(*self._embed_pairs(X, rest, aligned=True), self.loss_)

    def similarity_matrix(self, X, *rest):
        """Give the similarity of every image with every skeleton.

        Parameters
        ----------
        X : array-like or DataFrame
            Rows of pairs; or n images, followed by m skeletons.
        *rest : array-like
            The skeletons, in the form ``similarity_matrix(X_img, X_skel)``.

        Returns
        -------
        ndarray of shape (n, m), float32
            As `pair_score` has it, of n + m embeddings.
        """
        return gallery.similarity(*self._embed_pairs(X, rest, aligned=False), self.loss_)

    def pair_proba(self, X, *rest):
        """Give the probability that each image and the skeleton of its row share a case.

        Similarities rank skeletons for one image; through the known examples of every case they
        become comparable between images: the sum over cases of P(case given image) times P(case
        given skeleton). Binary cross-entropy gives a probability of its own.

        Parameters
        ----------
        X : array-like or DataFrame
            Rows of pairs; or images, followed by as many skeletons.
        *rest : array-like
            The skeletons, in the form ``pair_proba(X_img, X_skel)``.

        Returns
        -------
        ndarray of shape (n,), float32
            In 0..1.
        """
        return self._pair_proba(*self._embed_pairs(X, rest, aligned=True))

    def pair_proba_matrix(self, X, *rest):
        """Give the probability that every image and every skeleton share a case.

        Parameters
        ----------
        X : array-like or DataFrame
            Rows of pairs; or n images, followed by m skeletons.
        *rest : array-like
            The skeletons, in the form ``pair_proba_matrix(X_img, X_skel)``.

        Returns
        -------
        ndarray of shape (n, m), float32
            As `pair_proba` has it.
        """
        images, skeletons = self._embed_pairs(X, rest, aligned=False)
        return next(self._pair_proba_blocks(images, skeletons, len(images)))

    def predict_pairs(self, X, *rest):
        """Decide whether each image and the skeleton of its row share a case.

        Parameters
        ----------
        X : array-like or DataFrame
            Rows of pairs; or images, followed by as many skeletons.
        *rest : array-like
            The skeletons, in the form ``predict_pairs(X_img, X_skel)``.

        Returns
        -------
        ndarray of shape (n,), bool
            Whether `pair_proba` reaches `threshold_`; or that of the case that the image is most
            similar to, if there are `case_thresholds_`.
        """
        images, skeletons = self._embed_pairs(X, rest, aligned=True)
        threshold = self.threshold_
        if self.case_thresholds_ is not None:
            threshold = self.case_thresholds_[self._case_scores(images, "image").argmax(axis=1)]
        return self._pair_proba(images, skeletons) >= threshold

    def kneighbors(self, X, n_neighbors=5):
        """Find the known skeletons nearest to each image.

        Parameters
        ----------
        X : array-like or DataFrame
            Images alone, or rows of pairs, of which only the image is looked at.
        n_neighbors : int, default=5
            How many; at most as many as there are known skeletons.

        Returns
        -------
        scores : ndarray of shape (n, n_neighbors), float32
            Their similarities, the highest first.
        indices : ndarray of shape (n, n_neighbors), int
            Their rows in `gallery_.skeletons`: the rows of `fit`, then those of `add_cases`;
            ``gallery_.skeleton_ids[indices]`` names them, files by their paths. Of equal scores
            the lower row comes first.
        """
        images = self._embed_images(X)
        known = len(self.gallery_.skeletons)
        training.check_number("n_neighbors", n_neighbors, Integral, 1, high=known + 1)
        return gallery.nearest(images, self.gallery_.skeletons, n_neighbors, self.loss_)

    # ---- files -----------------------------------------------------------------------------------

    def save(self, path):
        """Write the fitted matcher into one file, which `load` reads, also on another machine.

        The file is in the format safetensors: tensors, and a JSON header. It holds parameters,
        networks, the gallery, thresholds and the history; not the rows of `fit`. It holds the state
        of modules of your own (`loss`, networks of the encoder) but not their code, and neither
        `callbacks`, `memory`, `checkpoint`, nor parameters that are functions or a RandomState.

        Parameters
        ----------
        path : str or path-like
            Of the file, with any suffix. A file that is there is replaced at once, or stays whole
            if anything fails.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If no file could hold the matcher.
        OSError
            If the file cannot be written; FileNotFoundError if its folder is missing.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> from skpair import PairMatcher
        >>> X, y = np.eye(4)[[0, 1, 0, 1]], ["a", "b", "a", "b"]
        >>> matcher = PairMatcher(max_epochs=1, random_state=0).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "matcher.skpair")
        ...     matcher.save(path)
        ...     loaded = PairMatcher.load(path)
        >>> (loaded.predict(X) == matcher.predict(X)).all()
        np.True_
        """
        check_is_fitted(self)
        persistence.save(self, path)

    @classmethod
    def load(cls, path, *, device=None, **missing):
        """Read a fitted matcher that `save` has written; nothing in the file is run.

        Parameters
        ----------
        path : str or path-like
            Of the file.
        device : str or None, default=None
            Where to compute from now on, the encoder too; None leaves the parameters `device` as
            they were.
        **missing
            What the file does not hold, by the names of parameters that `get_params` gives:
            modules of your own, as in ``load(path, loss=MyLoss(), encoder__image_encoder=Net())``,
            which get their state from the file (of a network, in `encoder_`); and, if you like,
            what only a training needs, such as `callbacks`.

        Returns
        -------
        PairMatcher
            What it computes is what the saved one did, to the bit on the same machine.

        Raises
        ------
        ValueError
            If the file is none of `save`, is damaged, is of a newer version, or does not fit the
            modules; or if a module is missing.
        OSError
            If the file is missing or cannot be read.

        Notes
        -----
        Parameters that the saved matcher had and that no file holds have their defaults;
        `left_out_` names them, and a later `fit` warns of them.
        """
        return persistence.load(cls, path, device, missing)

    # ---- fitting, in the order in which it runs --------------------------------------------------

    def _new_encoder(self, X):
        if self.encoder is None:
            if pairs.layout_name(X) == "features":
                return None
            encoder = PairEncoder(
                precision=self.precision, device=self.device, verbose=self.verbose
            )
        elif isinstance(self.encoder, PairEncoder):
            encoder = clone(self.encoder)
        else:
            raise ValueError(
                f"encoder must be a PairEncoder or None, got {self.encoder!r}. A network of your "
                "own goes into PairEncoder(image_encoder=..., skeleton_encoder=...); any other "
                "transformer into a pipeline before the matcher."
            )
        if encoder.random_state is None and self.random_state is not None:
            rng = self.random_state
            encoder.random_state = rng if isinstance(rng, Integral) else training.draw_seed(rng)
        return encoder

    def _check_parameters(self, encoder):
        check_number, check_choice = training.check_number, training.check_choice
        training.check_parameters(self)
        check_choice("training", self.training, ("two_stage", "joint", "fine_tune"))
        check_choice("similarity", self.similarity, ("cosine", "dot"))
        if not isinstance(self.loss, nn.Module):
            check_choice("loss", self.loss, tuple(LOSSES), ", or an instance of nn.Module")
        check_number("embedding_dim", self.embedding_dim, Integral, 1)
        if not isinstance(self.hidden_dims, tuple | list):
            raise TypeError(f"hidden_dims must be a tuple of integers, got {self.hidden_dims!r}.")
        for width in self.hidden_dims:
            check_number("hidden_dims", width, Integral, 1)
        check_number("dropout", self.dropout, Real, 0, high=1)
        if self.margin is not None:
            check_number("margin", self.margin, Real, 0)
        check_number("within_kind", self.within_kind, Real, 0)
        check_number("embedding_l2", self.embedding_l2, Real, 0)
        if not isinstance(self.early_stopping, bool | np.bool_):
            raise TypeError(f"early_stopping must be True or False, got {self.early_stopping!r}.")
        check_number("n_iter_no_change", self.n_iter_no_change, Integral, 1)
        check_number(
            "validation_fraction", self.validation_fraction, Real, 0, low_allowed=False, high=1
        )
        if self.training != "two_stage" and encoder is None:
            raise ValueError(
                f"training={self.training!r} trains towers together with the layers, but for "
                "feature rows encoder=None has no towers; use training='two_stage', or give a "
                "PairEncoder."
            )
        if self.training != "two_stage" and encoder.frozen is True:
            raise ValueError(
                f"training={self.training!r} trains the encoder's towers, but they have "
                "frozen=True; use training='two_stage' or frozen='auto'."
            )
        self._check_comparison(self.loss == "binary_cross_entropy")

    def _check_comparison(self, across_kinds_only):
        """Check what may be set after `fit` as well: how queries are compared with the gallery."""
        training.check_choice("gallery", self.gallery, ("both", "skeletons", "images"))
        training.check_choice("aggregate", self.aggregate, ("mean", "max"))
        training.check_number("temperature", self.temperature, Real, 0, low_allowed=False)
        if across_kinds_only and self.gallery == "images":
            raise ValueError(
                "gallery='images' does not go with loss='binary_cross_entropy', which compares "
                "images with skeletons only; use gallery='skeletons' or 'both'."
            )

    def _hold_out(self, codes, seed):
        """Split rows into those to learn from and those held out for early stopping."""
        rows = np.arange(len(codes))
        if not self.early_stopping:
            return rows, rows[:0]
        alone = np.bincount(codes)[codes] == 1
        if alone.any():
            warnings.warn(
                f"These cases have one row only, which cannot be held out for early stopping: "
                f"{self.classes_[codes[alone]].tolist()}.",
                stacklevel=pairs.users_level(),
            )
        n_cases = len(np.unique(codes[~alone]))
        held_out = max(n_cases, round(self.validation_fraction * len(rows)))
        if n_cases < 2 or len(rows[~alone]) - held_out < n_cases:
            raise ValueError(
                f"early_stopping=True needs some rows of at least 2 cases to hold out, but of "
                f"{len(rows)} rows in {len(self.classes_)} cases too few repeat a case; give more "
                "rows or early_stopping=False."
            )
        train, held_out = train_test_split(
            rows[~alone], test_size=held_out, stratify=codes[~alone], random_state=seed
        )
        return np.sort(np.concatenate([train, rows[alone]])), np.sort(held_out)

    def _learn(self, encoder, X, images, skeletons, codes, checkpoint):
        """Fit the encoder, if there is one, and the layers; give the net that trained them."""
        seed = checkpoint.seed("matcher", self.random_state)
        train, held_out = self._hold_out(codes, seed)
        if encoder is None:
            checkpoint.claim((images, skeletons))
        else:
            self._fit_encoder(encoder, X, codes, train, checkpoint)
            images, skeletons = self._encodings(encoder, X, checked=True)
        self.encoder_ = encoder
        with training.seeded(seed, training.resolve_device(self.device)):
            layers = self._new_layers(images.shape[0], skeletons.shape[0])
            for half in (images.take(train), skeletons.take(train)):
                rows = torch.from_numpy(half.read(slice(None)))
                getattr(layers, half.kind).standardize.measure(rows)
            criterion = self._new_criterion()
            if self.training != "joint":
                rows = self._rows(images, skeletons, codes, train, held_out, seed, self.batch_size)
                stage = checkpoint.stage("layers")
                with training.one_thread():
                    net = self._train(layers, criterion, *rows, settings=self, stage=stage)
            if self.training != "two_stage":
                stage = checkpoint.stage("together")
                net = self._train_together(
                    X, layers, criterion, codes, train, held_out, seed, stage
                )
                encoder.set_params(memory=None)  # its towers have learned: no other fit has them
                images, skeletons = self._encodings(encoder, X, checked=True)
        self.layers_ = layers
        self.loss_ = criterion.loss
        # set_params may change them until the next fit
        self._fitted_with = {name: getattr(self, name) for name in self._SHAPING}
        self.history_ = net.history
        self.n_iter_ = len(net.history)
        self._set_thresholds(images, skeletons, codes, train, held_out, seed)
        if len(held_out):  # else the threshold's gallery knows all rows already
            self.gallery_ = self._new_gallery(images, skeletons, codes)
        if self.layout_.name == "files":
            names = [pairs.file_names(self.layout_, X, kind) for kind in pairs.KINDS]
            self.gallery_ = self.gallery_.with_ids(*names)
        return net

    def _fit_encoder(self, encoder, X, codes, train, checkpoint):
        if self.training == "joint":
            # the towers as they start: they learn together with the layers
            frozen = encoder.frozen
            encoder.set_params(frozen=True)._fit_rows(X, codes, train, checkpoint)
            encoder.set_params(frozen=frozen)
            halves = pairs.pair_halves(encoder, X, checked=True)
            self._measure_batch_norm(encoder, halves, train)
        else:
            encoder._fit_rows(X, codes, train, checkpoint)
        for name in ("layout_", "n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)
            if hasattr(encoder, name):
                setattr(self, name, getattr(encoder, name))

    def _measure_batch_norm(self, encoder, halves, train):
        device = training.resolve_device(self.device)
        for half in halves:
            tower = getattr(encoder.towers_, half.kind)
            training.measure_batch_norm(tower, half.take(train), encoder.batch_size, device)

    def _encodings(self, encoder, X, rest=(), **how):
        halves = pairs.pair_halves(encoder, X, rest, **how)
        images, skeletons = encoder._encode_halves(*halves)
        return pairs.feature_half(images, "image"), pairs.feature_half(skeletons, "skeleton")

    def _new_layers(self, image_width, skeleton_width):
        return towers.DualEncoder(
            *(
                towers.Projection(
                    width,
                    self.embedding_dim,
                    self.hidden_dims,
                    self.dropout,
                    normalize=self.similarity == "cosine",
                )
                for width in (image_width, skeleton_width)
            )
        )

    def _new_criterion(self):
        if isinstance(self.loss, nn.Module):
            loss = copy.deepcopy(self.loss)
        else:
            loss = LOSSES[self.loss](self.get_params(deep=False))
        return MatchingLoss(loss, self.within_kind, self.embedding_l2)

    def _rows(self, images, skeletons, codes, train, held_out, seed, batch_size, augment=None):
        """Make the rows to train on, and those held out (None if there are none)."""
        device = training.resolve_device(self.device)

        def rows(part, augment):
            rng = np.random.RandomState(seed)
            return training.TrainingRows(
                [images.take(part), skeletons.take(part)],
                codes[part],
                PairSampler(codes[part], batch_size, self.sampler, rng),
                device,
                augment,
            )

        if not len(held_out):
            return rows(train, augment), None
        valid = rows(held_out, None)
        valid.batches = list(valid.batches)  # the same pairs in every epoch
        return rows(train, augment), valid

    def _train(self, module, criterion, rows, valid, *, settings, stage, rate=1.0, epochs=None):
        return training.fit_net(
            training.WithLoss(module, criterion.loss),
            criterion,
            rows,
            valid=valid,
            patience=self.n_iter_no_change,
            lr=rate * settings.lr,
            weight_decay=settings.weight_decay,
            max_epochs=epochs or settings.max_epochs,
            precision=training.resolve_precision(settings.precision, rows.device, rows.layout),
            callbacks=self.callbacks,
            verbose=self.verbose,
            stage=stage,
        )

    def _train_together(self, X, layers, criterion, codes, train, held_out, seed, stage):
        """Train the towers of `encoder_` and the layers, in place."""
        encoder = self.encoder_
        images, skeletons = pairs.pair_halves(encoder, X, checked=True)
        augment = towers.make_augment(encoder.augment, images.layout, seed)
        rows = self._rows(
            images, skeletons, codes, train, held_out, seed, encoder.batch_size, augment
        )
        module = encoder.towers_.followed_by(layers)
        how = {"settings": encoder, "stage": stage}
        if self.training == "fine_tune":
            how |= {"rate": 0.1, "epochs": max(1, encoder.max_epochs // 2)}
        net = self._train(module, criterion, *rows, **how)
        self._measure_batch_norm(encoder, (images, skeletons), train)
        return net

    def _set_thresholds(self, images, skeletons, codes, train, held_out, seed):
        """Set what decides, by rows held out or else by those of the training."""
        known, asked = (train, held_out) if len(held_out) else (slice(None), slice(None))
        self.gallery_ = self._new_gallery(images.take(known), skeletons.take(known), codes[known])
        self.temperature_ = self.pair_temperature_ = self._fitted_temperature()
        self.__dict__.pop("calibration_error_", None)  # of an earlier fit
        asked = np.arange(len(codes))[asked]
        if len(asked) > _THRESHOLD_ROWS:
            asked = np.random.RandomState(seed).permutation(asked)
            one_of_each = asked[np.unique(codes[asked], return_index=True)[1]]
            asked = np.union1d(asked[:_THRESHOLD_ROWS], one_of_each)
        images, skeletons = [self._embed(half.take(asked)) for half in (images, skeletons)]
        counts = self._count_pairs(images, codes[asked], skeletons, codes[asked])
        self.threshold_ = counts.best_threshold()
        self.case_thresholds_ = None
        # where none is held out, those asked are known examples themselves
        novelty = self._novelty(images, None if len(held_out) else asked)
        self._set_novelty_threshold(novelty, 0.05)

    def _new_gallery(self, images, skeletons, codes):
        return gallery.Gallery(
            self.classes_, self._embed(images), codes, self._embed(skeletons), codes
        )

    # ---- what the methods share ------------------------------------------------------------------

    def _embed(self, half):
        """Send encodings through the layer of their kind."""
        device = training.resolve_device(self.device)
        precision = training.resolve_precision(self.precision, device, half.layout)
        layer = getattr(self.layers_, half.kind)
        embedded = training.encode(layer, half, self.batch_size, device, precision)
        # a dot product is no longer than both lengths multiplied
        square = np.einsum("nd,nd->n", embedded, embedded)
        if layer.normalize:  # what is too long for float32 was divided by an infinite length
            square = np.where(square == 0, np.inf, square)
        training.check_finite(square[:, None], half.kind, half.rows)
        return embedded

    def _embed_images(self, X):
        check_is_fitted(self)
        if self.encoder_ is None:
            return self._embed(pairs.image_half(self, X))
        return self._embed(pairs.feature_half(self.encoder_.encode_images(X), "image"))

    def _embed_pairs(self, X, rest, *, aligned):
        check_is_fitted(self)
        if self.encoder_ is None:
            halves = pairs.pair_halves(self, X, rest, aligned=aligned)
        else:
            halves = self._encodings(self.encoder_, X, rest, aligned=aligned)
        return map(self._embed, halves)

    def _compares_itself(self):
        """Whether the loss compares an image with a skeleton by more than their similarity."""
        return hasattr(self.loss_, "pair_logits")

    def _name(self, queries, kind):
        """Name the case of embeddings; novelty is known of images only."""
        names = self.classes_[self._case_scores(queries, kind).argmax(axis=1)]
        if self.unknown_label is None or kind == "skeleton":
            return names
        unknown = self._check_unknown_label()
        return np.where(self._novelty(queries) > self.novelty_threshold_, unknown, names)

    def _case_scores(self, queries, kind):
        self._check_comparison(self._compares_itself())
        if self._compares_itself():
            return self.gallery_.case_probability(
                queries, self.loss_, query_is_image=kind == "image"
            )
        return self.gallery_.case_similarity(
            queries,
            kinds=self.gallery,
            aggregate=self.aggregate,
            normalize=self.layers_.image.normalize,
        )

    def _logits(self, scores):
        return np.log(np.maximum(scores, 1e-30)) if self._compares_itself() else scores

    def _probabilities(self, scores, temperature):
        # embeddings are float32: more digits would be noise
        return softmax(self._logits(scores) / temperature, axis=1).astype(np.float32)

    def _case_probabilities(self, images, skeletons):
        temperature = self.pair_temperature_
        return (
            self._probabilities(self._case_scores(images, "image"), temperature),
            self._probabilities(self._case_scores(skeletons, "skeleton"), temperature),
        )

    def _fitted_temperature(self):
        """Give the temperature of `fit`; probabilities of pairs have none."""
        return 1.0 if self._compares_itself() else float(self._fitted_with["temperature"])

    def _pair_proba(self, images, skeletons):
        if self._compares_itself():
            return expit(gallery.paired_similarity(images, skeletons, self.loss_))
        return np.einsum("nc,nc->n", *self._case_probabilities(images, skeletons))

    def _pair_proba_blocks(self, images, skeletons, step):
        """Yield the probabilities of `step` images at a time, with all skeletons."""
        if not self._compares_itself():
            images, skeletons = self._case_probabilities(images, skeletons)
        for start in range(0, len(images), step):
            block = images[start : start + step]
            if self._compares_itself():
                yield expit(gallery.similarity(block, skeletons, self.loss_))
            else:
                yield block @ skeletons.T

    @property
    def _n_features_out(self):
        return self.gallery_.images.shape[1]

    def __sklearn_is_fitted__(self):
        """Whether `fit` has come to its end."""
        return hasattr(self, "net_")

    def __sklearn_tags__(self):
        """Tell scikit-learn what the estimator takes and gives."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.classifier_tags.poor_score = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def judge_images(matcher, X):
    """Give `predict_proba` and `novelty_score` of images that are embedded once for both."""
    images = matcher._embed_images(X)
    scores = matcher._case_scores(images, "image")
    return matcher._probabilities(scores, matcher.temperature_), matcher._novelty(images)
