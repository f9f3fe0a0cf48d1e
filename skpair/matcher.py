"""PairMatcher: the scikit-learn face of matching images with skeletons."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from .checks import NestedParameters, check_number, codes_by_kind, warn_of_lookalikes
from .decisions import Decisions
from .encoder import PairEncoder
from .known import thresholds
from .known.deciding import TAKEN, decide
from .known.judge import (
    Judge,
    as_unknown_label,
    check_comparison,
    prior_offsets,
    temperature_of,
)
from .learning import schemes
from .learning.devices import draw_seed
from .learning.parameters import check_matching, check_prior
from .learning.splits import check_held_out, split_rows
from .pair_scores import PairScores
from .persistence import Persistence, warn_of_left_out
from .rows import reading
from .rows.decoded import DecodedPictures
from .rows.halves import feature_half
from .rows.layouts import layout_name
from .storage.checkpoint import Checkpoint


class PairMatcher(
    PairScores,
    Decisions,
    Persistence,
    NestedParameters,
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
    dropout : float or "auto", default="auto"
        Probability with which an encoding's column is dropped in training. "auto" chooses it by
        the encodings of the training rows, which wide encodings of frozen networks gain from;
        `dropout_` tells what it chose; 0.5 where the encoder learns, for its encodings of the rows
        that it has learned tell nothing, and where more than 90 % of the rows are told by others.
        Give a number where rows are near-copies of others (crops of one specimen), or where a step
        before the matcher has learned a part of what tells them: neither can be seen here.
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
        Fraction of each case to hold out, under `early_stopping` and where an encoder learns (of
        cases that it is half a row of, at least): by these, thresholds are set. 0: none, and no
        rehearsal either, see `judged_by_`.
    n_iter_no_change : int, default=10
        Epochs without a lower loss after which to stop, under `early_stopping`.
    gallery : {"both", "skeletons", "images"}, default="both"
        Which known examples name an image. "skeletons" is the published method. The loss
        "binary_cross_entropy" compares across kinds only: images with the known skeletons.
    aggregate : {"mean", "max"}, default="mean"
        Compare with the mean of a case's known examples, or with the most similar one.
    prior : {"uniform", "empirical", "auto"} or array-like of shape (n_cases,), default="auto"
        How frequent the cases are taken to be when an image is named: alike, as among the images of
        `fit`, or by a probability for each of `classes_`; "auto": in proportion to the fourth root
        of their number. `fit` makes `prior_` of it, which may be set later; to set the parameter
        then changes nothing before the next `fit`. Pairs, and the naming of skeletons, have none.
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
        Added to those of the training of the layers. One of your own that ends a training raises
        `skpair.learning.StopTraining`.
    device : str, default="auto"
        Where to compute, as torch names it; "auto" takes a GPU if there is one.
    random_state : int, RandomState instance or None, default=None
        Start weights, order of rows, dropout, rows held out.
    verbose : int, default=0
        1 shows progress bars (of files that are decoded, of pictures that are encoded, and of the
        batches of an epoch), and a line an epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_cases,)
        The cases.
    encoder_ : PairEncoder or None
        The fitted encoder.
    gallery_ : Gallery
        Embeddings of the distinct images and skeletons of `fit`, by case, and of the skeletons
        added since.
    judged_by_ : {"held_out", "rehearsal", "training"}
        Whose judgement sets `threshold_`, `novelty_threshold_` and what added cases get: that of
        the pictures held out; on encodings that do not learn, of a third of the rows that layers
        trained for 15 epochs on the others have not seen, nor a quarter of the cases; or, where
        there are too few of either, of training rows, which is optimistic.
    threshold_ : float
        `pair_proba` from which on `predict_pairs` says yes: of the best balanced accuracy over
        the pairs of these (at most 500 of each kind); `calibrate_threshold` sets it by others. It
        belongs to the `gallery` and `aggregate` that it was set with, as `novelty_threshold_` does.
    case_thresholds_ : ndarray of shape (n_cases,) or None
        The same for each case, after ``calibrate_threshold(..., per_case=True)``; then these
        decide, and `threshold_` only for cases added since.
    novelty_threshold_ : float
        `novelty_score` above which an image counts as unknown: that of 5 % of the same images;
        `calibrate_novelty` sets it.
    familiar_ : dict of str to Familiar
        Where the encodings of the known pictures lie, by kind.
    temperature_ : float
        Divides the scores in `predict_proba`: the parameter `temperature` of `fit`, until
        `calibrate_probabilities` sets it. (1 for the loss "binary_cross_entropy".)
    pair_temperature_ : float
        The same in `pair_proba`, for which `threshold_` is set; pairs have no prior, so
        `calibrate_probabilities` finds them a temperature of their own.
    calibration_error_ : dict
        After `calibrate_probabilities`: the expected calibration error "before" and "after".
    dropout_ : float
        The dropout of the layers.
    prior_ : ndarray of shape (n_cases,)
        How frequent the cases are taken to be; of cases added since, the geometric mean of others.
    new_case_offsets_ : ndarray of shape (n_cases,), float32, or None
        What is added to the scores of images for cases that were added, 0 for others; None where
        there are none. So much that a case takes a tenth of the images of known cases, or what
        `calibrate_new_cases` allows.
    new_case_images_, new_case_false_alarm_ : ndarray of shape (n, embedding_dim) and float, or None
        By which images, embedded, and for which share of them they are set: those held out.
    new_case_offset_ : float or None
        What they are where there are no such images: by the cases that a rehearsal leaves out.
    learned_with_ : dict
        Values in `fit` of the parameters that decide what is learned; `set_params` may have changed
        them since.
    judge_ : Judge
        What is known, and how it decides: a view of the other attributes.
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

    def __init__(
        self,
        encoder=None,
        *,
        training="two_stage",
        embedding_dim=64,
        hidden_dims=(),
        dropout="auto",
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
        prior="auto",
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
        self.prior = prior
        self.unknown_label = unknown_label
        self.checkpoint = checkpoint
        self.precision = precision
        self.callbacks = callbacks
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X, y, *rest, background=None):
        """Learn to tell whether an image and a skeleton belong to the same case.

        Parameters
        ----------
        X : array-like or DataFrame
            Rows of pairs: pixels (n, C + 1, H, W), files (n, 2) or features (n, p); or images,
            followed by skeletons and cases: ``fit(X_img, X_skel, y)`` where row i of both is a
            pair, ``fit(X_img, X_skel, y_img, y_skel)`` for two sets of any size that hold the same
            cases. Of rows that hold the same picture of a case (the same numbers, or path), it
            counts once. Sets that are given apart have no names of columns. (While two sets are
            read, the smaller one is repeated to the length of the larger.)
        y : array-like of shape (n,)
            Case of each row.
        *rest : array-like
            The cases, in the other forms.
        background : array-like or DataFrame, default=None
            Images of no case (detritus, bubbles, artifacts), two or more, in the layout of X. The
            tower of images learns to tell them from the cases (unless in "joint" training), and
            `novelty_score` to call the like novel; they are never named but as unknown.

        Returns
        -------
        self : object

        Raises
        ------
        ValueError
            If a parameter, X, y or `background` is not as described.
        OSError
            If a file is missing or broken; it is named, with its row.
        """
        warn_of_left_out(self)
        self.__dict__.pop("net_", None)  # an interrupted fit leaves the estimator unfitted
        encoder = self._new_encoder(X)
        how = reading.how_of(PairEncoder() if encoder is None else encoder)
        X, y, sets = reading.as_pairs(X, y, rest, **how)
        how["n_skeletons"] = None if sets is None else len(sets[1])
        self.check_parameters(encoder)
        if encoder is None:
            *halves, self.layout_, y = reading.fit_pairs(self, X, y, **how)
        elif y is not None:  # pictures are read when all else is known to be right
            check_consistent_length(X, y)
        self.classes_, codes = codes_by_kind(y, sets)
        warn_of_lookalikes(self.classes_)
        as_unknown_label(self.unknown_label, self.classes_)
        check_prior(self.prior, len(self.classes_))
        checkpoint = Checkpoint(self.checkpoint, self, codes[0] if sets is None else codes)
        with checkpoint, DecodedPictures() as kept:
            seed = checkpoint.seed("matcher", self.random_state)
            check_held_out(self, self.classes_, codes[0])
            if encoder is not None:
                rows = codes[0] if sets is None else np.resize(codes[0], len(X))
                how |= {"kept": kept, "verbose": self.verbose or encoder.verbose}
                *halves, self.layout_, _ = reading.fit_pairs(self, X, rows, **how)
                reading.hand_on_columns(self, encoder)
            if background is not None:
                background = reading.background_half(self, background, halves[0])
            halves, codes = reading.distinct_halves(halves, codes)
            towers_learn = encoder is not None and encoder.learns()
            split = split_rows(self, self.classes_, codes, seed, learned=towers_learn)
            learned = schemes.learn(self, encoder, halves, split, checkpoint, background)
            self.dropout_ = learned.dropout
            self._decide(learned, split, halves, rehearse=not towers_learn)
            self.encoder_ = encoder
            self.layers_, self.loss_ = learned.layers, learned.loss
            # set_params may change them until the next fit
            self.learned_with_ = {name: getattr(self, name) for name in schemes.SHAPING}
            self.history_, self.n_iter_ = learned.net.history, len(learned.net.history)
            self.net_ = learned.net
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
        judge, encoded = self.judge_, self.encode_halves(reading.image_half(self, X))[0]
        foreign = None if self.unknown_label is None else judge.foreign(encoded)
        return judge.name(judge.embed(encoded), "image", foreign)

    def predict_proba(self, X):
        """Give the probability of each case for each image.

        Parameters
        ----------
        X : array-like or DataFrame
            Images alone, or rows of pairs, of which only the image is looked at.

        Returns
        -------
        ndarray of shape (n, n_cases), float32
            A softmax of the similarities, to which the prior adds, over `temperature_`; rows sum to
            one.
        """
        return self.judge_.proba(self.judge_.score(self.embed_images(X), "image"))

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
            The prior has its part in them, as in `predict`.
        """
        judge = self.judge_
        scores = judge.decide(judge.score(self.embed_images(X), "image"))
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
        return self.embed_images(X)

    def embed_images(self, X_img):
        """Embed images, whatever `set_output` says: what `transform` gives, as an array.

        Parameters
        ----------
        X_img : array-like or DataFrame
            Images alone, or rows of pairs, of which only the image is looked at.

        Returns
        -------
        ndarray of shape (n, embedding_dim), float32
        """
        check_is_fitted(self)
        (embedded,) = self.embed_halves(reading.image_half(self, X_img))
        return embedded

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
        (embedded,) = self.embed_halves(reading.skeleton_half(self, X_skel))
        return embedded

    # ---- fitting, in the order in which it runs --------------------------------------------------

    def _new_encoder(self, X):
        if self.encoder is None:
            if layout_name(X) == "features":
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
            encoder.random_state = rng if isinstance(rng, Integral) else draw_seed(rng)
        return encoder

    def check_parameters(self, encoder):
        """Raise unless the parameters go together with those of the encoder (or None)."""
        check_matching(self, encoder)
        check_comparison(self.gallery, self.aggregate, self.loss == "binary_cross_entropy")
        if encoder is not None:
            encoder.check_parameters()

    def _decide(self, learned, split, halves, *, rehearse):
        """Set what decides, by pictures that were not learned, as far as there are some."""
        names = [half.names() for half in halves]
        ids = [
            half.rows if name is None else name for half, name in zip(halves, names, strict=True)
        ]
        rehearse = rehearse and self.validation_fraction > 0
        decided = decide(self, learned, split, self._judging(), ids, rehearse=rehearse)
        self.gallery_, self.familiar_ = decided.gallery, decided.familiar
        self.judged_by_ = decided.judged_by
        temperature = temperature_of(learned.loss, self.temperature)
        self.temperature_ = self.pair_temperature_ = temperature
        self.prior_ = thresholds.as_prior(self.prior, np.bincount(split.codes["image"]))
        self.threshold_, self.case_thresholds_ = decided.threshold, None
        self.novelty_threshold_ = decided.novelty_threshold
        self.new_case_offsets_, self.new_case_offset_ = None, decided.new_case_offset
        self.new_case_images_ = decided.new_case_images
        self.new_case_false_alarm_ = None if decided.new_case_images is None else TAKEN
        self.__dict__.pop("calibration_error_", None)  # of an earlier fit

    # ---- from X to embeddings, and what judges them ----------------------------------------------

    @property
    def judge_(self):
        """What is known, and how it decides, by the attributes and parameters of this moment."""
        check_is_fitted(self)
        check_number("temperature", self.temperature, Real, 0, low_allowed=False)
        check_prior(self.prior_, len(self.classes_))  # it may be set by hand
        fitted_temperature = temperature_of(self.loss_, self.learned_with_["temperature"])
        return Judge(
            self.layers_,
            self.loss_,
            self.gallery_,
            temperature=self.temperature_,
            pair_temperature=self.pair_temperature_,
            threshold=self.threshold_,
            case_thresholds=self.case_thresholds_,
            novelty_threshold=self.novelty_threshold_,
            familiar=self.familiar_,
            offsets=prior_offsets(np.asarray(self.prior_, float), fitted_temperature),
            raised=self.new_case_offsets_,
            unknown_label=self.unknown_label,
            **self._judging(),
        )

    def _judging(self):
        return {
            "kinds": self.gallery,
            "aggregate": self.aggregate,
            "batch_size": self.batch_size,
            "device": self.device,
            "precision": self.precision,
        }

    def embed_halves(self, *halves):
        """Embed rows that were checked and read already.

        Parameters
        ----------
        *halves : Half
            Images or skeletons, each of any number of rows.

        Returns
        -------
        list of ndarray of shape (n, embedding_dim), float32
            Of each half.
        """
        return list(map(self.judge_.embed, self.encode_halves(*halves)))

    def encode_halves(self, *halves):
        """Encode rows that were checked and read already: a list of `Half` of features."""
        if self.encoder_ is None:
            return list(halves)
        encoded = self.encoder_.encode_halves(*halves, verbose=self.verbose)
        return [feature_half(x, half.kind) for x, half in zip(encoded, halves, strict=True)]

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
