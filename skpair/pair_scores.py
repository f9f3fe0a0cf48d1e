"""What a matcher says of pairs: scores, probabilities, decisions, neighbours."""

from numbers import Integral

from sklearn.utils.validation import check_is_fitted

from .checks import check_number
from .rows import reading


class PairScores:
    """The methods of `PairMatcher` that compare images with skeletons.

    They ask its `judge_`, `gallery_`, `embed_images` and `embed_halves`.
    """

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
        return self.judge_.pair_score(*self.embed_pairs(X, rest))

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
        return self.judge_.score_matrix(*self.embed_pairs(X, rest, aligned=False))

    def pair_proba(self, X, *rest):
        """Give the probability that each image and the skeleton of its row share a case.

        Similarities rank skeletons for one image; through the known examples of every case they
        become comparable between images: the sum over cases of P(case given image) times P(case
        given skeleton), both without the prior. Binary cross-entropy gives a probability of its
        own.

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
        return self.judge_.pair_proba(*self.embed_pairs(X, rest))

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
        images, skeletons = self.embed_pairs(X, rest, aligned=False)
        return next(self.judge_.pair_proba_blocks(images, skeletons, len(images)))

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
            Whether `pair_proba` reaches `threshold_`; or that of the case that the image is
            named, if there are `case_thresholds_`.
        """
        return self.judge_.predict_pairs(*self.embed_pairs(X, rest))

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
            Their rows in `gallery_.skeletons`: the distinct skeletons of `fit`, by their first
            rows, then those of `add_cases`; ``gallery_.skeleton_ids[indices]`` names them, files
            by their paths. Of equal scores the lower row comes first.
        """
        images = self.embed_images(X)
        known = len(self.gallery_.skeletons)
        check_number("n_neighbors", n_neighbors, Integral, 1, high=known, high_allowed=True)
        return self.judge_.nearest_skeletons(images, n_neighbors)

    def embed_pairs(self, X, rest=(), *, aligned=True):
        """Embed the images and the skeletons of ``method(X)`` or ``method(X_img, X_skel)``.

        Parameters
        ----------
        X : array-like or DataFrame
            Rows of pairs; or images.
        rest : sequence
            The skeletons, if X holds images.
        aligned : bool, default=True
            Whether there must be as many skeletons as images.

        Returns
        -------
        list of two ndarray of shape (n, embedding_dim) and (m, embedding_dim), float32
        """
        check_is_fitted(self)
        return self.embed_halves(*reading.pair_halves(self, X, rest, aligned=aligned))
