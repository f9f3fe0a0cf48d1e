"""Losses on a batch of image embeddings, skeleton embeddings and their cases.

Every loss is called as ``loss(image, skeleton, y_image, y_skeleton)`` with embeddings of shape
(n, d) and integer cases of shape (n,), and gives a scalar. Row i of both sides shares a case. The
similarity of two embeddings is their dot product: of unit vectors, that is the cosine.

A loss with a true attribute `symmetric` makes no difference between the kinds: it can compare
images with images and skeletons with skeletons as well, see `MatchingLoss`.
"""

import inspect
import math
import reprlib

import torch
import torch.nn.functional as F
from torch import nn

__all__ = [
    "LOSSES",
    "BinaryCrossEntropyLoss",
    "ContrastiveLoss",
    "InfoNCELoss",
    "MatchingLoss",
    "MetricLearningLoss",
    "NPairLoss",
    "SigmoidLoss",
    "SupConLoss",
    "TripletLoss",
]


def _log_softmax(logits):
    """Average the log-softmax over both directions, image -> skeleton and skeleton -> image."""
    return (logits.log_softmax(1) + logits.log_softmax(0)) / 2  # (n, n)


def _same_case(y_image, y_skeleton):
    return y_image[:, None] == y_skeleton[None, :]  # (n, n)


def _other_case(y_image, y_skeleton):
    """Pick for each image, by chance, a skeleton of another case.

    Returns the rows, and a weight of 0 where the batch holds no other case.
    """
    different = ~_same_case(y_image, y_skeleton)
    chance = (1 - torch.rand(different.shape, device=different.device)) * different  # never 0
    weight, rows = chance.max(dim=1)
    return rows, (weight > 0).float()


def _halves(y):
    """Split a batch in two halves whose rows share a case one by one: two tensors of rows.

    A row of the first half that finds no partner is its own; an odd row is left out. All sizes
    are known beforehand, so a GPU need not wait.
    """
    order = torch.argsort(y, stable=True)
    first, second = order[: len(y) // 2 * 2].view(-1, 2).unbind(1)
    return first, torch.where(y[first] == y[second], second, first)


class NPairLoss(nn.Module):
    r"""N-pair loss: one positive against the rows of all other cases at once.

    For anchor i with positive i, over the rows j of a different case,
    :math:`\log(1 + \sum_j \exp((s_{ij} - s_{ii}) / t))`, averaged over both directions. Rows of
    the anchor's own case are never negatives.

    Parameters
    ----------
    temperature : float
        Divides the similarities.

    References
    ----------
    Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", NeurIPS 2016.
    """

    symmetric = True

    def __init__(self, temperature=0.1):
        super().__init__()
        self.temperature = temperature

    def forward(self, image, skeleton, y_image, y_skeleton):
        """Give the loss of a batch."""
        # softmax cross-entropy with the other rows of the anchor's case masked is the formula above
        ignored = _same_case(y_image, y_skeleton).fill_diagonal_(False)
        logits = (image / self.temperature) @ skeleton.T
        return -_log_softmax(logits.masked_fill(ignored, -math.inf)).diagonal().mean()


class InfoNCELoss(nn.Module):
    """InfoNCE: one positive against all other rows of the batch, whatever their case.

    Parameters
    ----------
    temperature : float
        Divides the similarities.

    References
    ----------
    van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018.
    """

    symmetric = True

    def __init__(self, temperature=0.1):
        super().__init__()
        self.temperature = temperature

    def forward(self, image, skeleton, y_image, y_skeleton):
        """Give the loss of a batch."""
        return -_log_softmax((image / self.temperature) @ skeleton.T).diagonal().mean()


class SupConLoss(nn.Module):
    """Supervised contrastive loss: every row of the anchor's case is a positive.

    Parameters
    ----------
    temperature : float
        Divides the similarities.

    References
    ----------
    Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020.
    """

    symmetric = True

    def __init__(self, temperature=0.1):
        super().__init__()
        self.temperature = temperature

    def forward(self, image, skeleton, y_image, y_skeleton):
        """Give the loss of a batch."""
        same = _same_case(y_image, y_skeleton).float()
        target = same / same.sum(1, keepdim=True)  # symmetric, for row i of both shares a case
        logits = (image / self.temperature) @ skeleton.T
        return -(target * _log_softmax(logits)).sum(1).mean()


class SigmoidLoss(nn.Module):
    """Sigmoid loss: every pair of the batch is a same-or-not decision of its own.

    Scale and bias of the similarities are learned, as published.

    Parameters
    ----------
    temperature : float
        The scale starts at one over this.

    References
    ----------
    Zhai et al., "Sigmoid Loss for Language Image Pre-Training", ICCV 2023.
    """

    symmetric = True

    def __init__(self, temperature=0.1):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.bias = nn.Parameter(torch.tensor(-1.0 / temperature))

    def forward(self, image, skeleton, y_image, y_skeleton):
        """Give the loss of a batch."""
        same = _same_case(y_image, y_skeleton).float()
        logits = image @ skeleton.T * self.log_scale.exp() + self.bias
        return F.binary_cross_entropy_with_logits(logits, same, reduction="sum") / len(image)


class BinaryCrossEntropyLoss(nn.Module):
    """Binary cross-entropy of a small classifier on the concatenated embeddings.

    Sees as many same pairs (row i with row i) as different ones (row i with a skeleton of another
    case, by chance).

    Parameters
    ----------
    embedding_dim : int
        Columns of each embedding.
    hidden_dim : int
        Units of the classifier's hidden layer.
    """

    def __init__(self, embedding_dim, hidden_dim=64):
        super().__init__()
        # one linear layer on the concatenation, kept as its two halves: pairs need no copies
        self.image = nn.Linear(embedding_dim, hidden_dim)
        self.skeleton = nn.Linear(embedding_dim, hidden_dim, bias=False)
        self.output = nn.Linear(hidden_dim, 1)

    def pair_logits(self, image, skeleton):
        """Give the logit that rows share a case; leading dimensions broadcast."""
        hidden = torch.relu(self.image(image) + self.skeleton(skeleton))
        return self.output(hidden).squeeze(-1)

    def forward(self, image, skeleton, y_image, y_skeleton):
        """Give the loss of a batch."""
        other, weight = _other_case(y_image, y_skeleton)
        same = F.softplus(-self.pair_logits(image, skeleton))
        different = F.softplus(self.pair_logits(image, skeleton[other]))
        return (same.mean() + (weight * different).mean()) / 2


class ContrastiveLoss(nn.Module):
    """Contrastive loss: draw same pairs together, push different ones apart up to a margin.

    Distances are Euclidean; as many same as different pairs.

    Parameters
    ----------
    margin : float
        Distance beyond which a different pair costs nothing; unit vectors are at most 2 apart.

    References
    ----------
    Hadsell et al., "Dimensionality Reduction by Learning an Invariant Mapping", CVPR 2006.
    """

    symmetric = True

    def __init__(self, margin=2.0):
        super().__init__()
        self.margin = margin

    def forward(self, image, skeleton, y_image, y_skeleton):
        """Give the loss of a batch."""
        other, weight = _other_case(y_image, y_skeleton)
        same = (image - skeleton).square().sum(1)
        distance = F.pairwise_distance(image, skeleton[other])
        different = weight * F.relu(self.margin - distance).square()
        return (same.mean() + different.mean()) / 2


class TripletLoss(nn.Module):
    """Triplet loss: the positive is closer to the anchor than a negative, by a margin.

    Distances are Euclidean. Images and skeletons are anchors in turn; each has one negative.

    Parameters
    ----------
    margin : float
        How much closer, in units of distance.

    References
    ----------
    Schroff et al., "FaceNet: A Unified Embedding for Face Recognition and Clustering", CVPR 2015.
    """

    symmetric = True

    def __init__(self, margin=0.2):
        super().__init__()
        self.margin = margin

    def forward(self, image, skeleton, y_image, y_skeleton):
        """Give the loss of a batch."""
        positive = F.pairwise_distance(image, skeleton)
        total = 0.0
        for anchor, others in ((image, skeleton), (skeleton, image)):
            rows, weight = _other_case(y_image, y_skeleton)
            negative = F.pairwise_distance(anchor, others[rows])
            total = total + (weight * F.relu(positive - negative + self.margin)).mean()
        return total / 2


class MetricLearningLoss(nn.Module):
    """Adapter of pytorch-metric-learning: a loss of that library, between images and skeletons.

    Takes the losses that accept reference embeddings (`ref_emb`): images are compared with
    skeletons and skeletons with images. Others of them, such as those that hold proxies of each
    case, know one kind only, and raise in `fit`.

    Parameters
    ----------
    loss : nn.Module
        Called as ``loss(embeddings, labels, ref_emb=..., ref_labels=...)``, such as
        ``pytorch_metric_learning.losses.MultiSimilarityLoss()``.

    Raises
    ------
    TypeError
        If `loss` is no module, or cannot be called so.

    Examples
    --------
    A matcher that learns with it, where that library is installed::

        from pytorch_metric_learning.losses import MultiSimilarityLoss
        PairMatcher(loss=MetricLearningLoss(MultiSimilarityLoss()))
    """

    symmetric = True

    def __init__(self, loss):
        super().__init__()
        module = isinstance(loss, nn.Module)
        if not module or "ref_emb" not in inspect.signature(loss.forward).parameters:
            raise TypeError(
                "loss must be an instance of a loss of pytorch-metric-learning that takes "
                f"reference embeddings (ref_emb), such as MultiSimilarityLoss(), got {loss!r}."
            )
        self.loss = loss

    def forward(self, image, skeleton, y_image, y_skeleton):
        """Give the loss of a batch."""
        # were the labels one and the same tensor, row i would be no positive of row i there
        there = self.loss(image, y_image, ref_emb=skeleton, ref_labels=y_skeleton.clone())
        back = self.loss(skeleton, y_skeleton, ref_emb=image, ref_labels=y_image.clone())
        return (there + back) / 2


class MatchingLoss(nn.Module):
    """What the layers minimize: a loss across the kinds, the same within each, and a penalty.

    In cross-modal retrieval, the first two are the inter-modal and the intra-modal loss. Within a
    kind, half of a batch is compared with the other half.

    Parameters
    ----------
    loss : nn.Module
        Compares two sides.
    within_kind : float
        Weight of the loss among images and of that among skeletons, where `loss` is symmetric.
    embedding_l2 : float
        Weight of the mean squared length of the embeddings.
    """

    def __init__(self, loss, within_kind=0.0, embedding_l2=0.0):
        super().__init__()
        self.loss = loss
        self.within_kind = within_kind if getattr(loss, "symmetric", False) else 0.0
        self.embedding_l2 = embedding_l2

    def forward(self, embeddings, y):
        """Give the loss of a batch."""
        image, skeleton = embeddings
        loss = self.loss(image, skeleton, y, y)
        if not isinstance(loss, torch.Tensor) or loss.ndim > 0 or not loss.is_floating_point():
            raise TypeError(f"loss must give a tensor with one number, but gave {_shown(loss)}.")
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise TypeError("loss gave a tensor without gradients: it must not be detached.")
        if self.within_kind and len(y) > 1:
            a, b = _halves(y)
            within = [self.loss(x[a], x[b], y[a], y[b]) for x in embeddings]
            loss = loss + self.within_kind * sum(within)
        penalty = image.square().sum(1).mean() + skeleton.square().sum(1).mean()
        return loss + self.embedding_l2 * penalty


def _shown(value):
    """Tell in a few words what a loss of the user's has given."""
    if not isinstance(value, torch.Tensor):
        return reprlib.repr(value)
    advice = "; average it, as with .mean()" if value.ndim else ""
    return f"one of {value.dtype} and shape {tuple(value.shape)}{advice}"


def _with_margin(loss, margin):
    return loss() if margin is None else loss(margin)


#: Losses by name; each takes what it needs of a matcher's parameters.
LOSSES = {
    "n_pair": lambda p: NPairLoss(p["temperature"]),
    "info_nce": lambda p: InfoNCELoss(p["temperature"]),
    "sup_con": lambda p: SupConLoss(p["temperature"]),
    "sigmoid": lambda p: SigmoidLoss(p["temperature"]),
    "binary_cross_entropy": lambda p: BinaryCrossEntropyLoss(p["embedding_dim"]),
    "contrastive": lambda p: _with_margin(ContrastiveLoss, p["margin"]),
    "triplet": lambda p: _with_margin(TripletLoss, p["margin"]),
}
