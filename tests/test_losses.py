import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from skpair import PairMatcher
from skpair.losses import (
    LOSSES,
    BinaryCrossEntropyLoss,
    ContrastiveLoss,
    InfoNCELoss,
    MatchingLoss,
    MetricLearningLoss,
    NPairLoss,
    SigmoidLoss,
    SupConLoss,
    TripletLoss,
)

PARAMETERS = {"temperature": 0.5, "embedding_dim": 4, "margin": 1.0}
ALL_PAIRS = ["n_pair", "info_nce", "sup_con", "sigmoid"]
PAIRWISE = ["binary_cross_entropy", "contrastive", "triplet"]


def make(name):
    torch.manual_seed(0)
    return LOSSES[name](PARAMETERS)


def embeddings(n, d=4, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [(scale * torch.randn(n, d, generator=generator)).requires_grad_() for _ in range(2)]


def softplus(x):
    return math.log1p(math.exp(x))


def value(loss, image, skeleton, y):
    image, skeleton, y = (torch.as_tensor(a) for a in (image, skeleton, y))
    return loss(image.float(), skeleton.float(), y, y).item()


# Three rows of two cases in the plane. Their dot products, image by skeleton:
#          s0   s1   s2
#     i0    2    0    4
#     i1    1    1    3
#     i2    1   -1    1
IMAGES = [[2.0, 0.0], [1.0, 1.0], [1.0, -1.0]]
SKELETONS = [[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]]
Y = [0, 0, 1]


# ---- all pairs of a batch ------------------------------------------------------------------------


def test_n_pair_by_hand():
    # Row 0 and row 1 share a case: each has row 2 as its only negative; row 2 has both.
    images_first = (
        softplus(4 - 2) + softplus(3 - 1) + math.log(1 + math.exp(1 - 1) + math.exp(-1 - 1))
    ) / 3
    skeletons_first = (
        softplus(1 - 2) + softplus(-1 - 1) + math.log(1 + math.exp(4 - 1) + math.exp(3 - 1))
    ) / 3
    assert (images_first, skeletons_first) == pytest.approx((1.670827, 1.263067), abs=1e-6)
    expected = (images_first + skeletons_first) / 2
    assert value(NPairLoss(1), IMAGES, SKELETONS, Y) == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(1.466947, abs=1e-6)


def test_n_pair_divides_by_the_temperature():
    # One negative each, of similarity 0, and a positive of 1: log(1 + exp(-1 / t)).
    for temperature, expected in [(1.0, 0.313262), (0.5, 0.126928), (0.1, 0.0000453989)]:
        loss = value(NPairLoss(temperature), torch.eye(2), torch.eye(2), [0, 1])
        assert loss == pytest.approx(expected, abs=1e-6)


def test_n_pair_of_single_pairs_is_softmax_cross_entropy():
    image, skeleton = embeddings(7)
    y = torch.arange(7)
    similarity = image @ skeleton.T
    expected = (F.cross_entropy(similarity, y) + F.cross_entropy(similarity.T, y)) / 2
    torch.testing.assert_close(NPairLoss(1)(image, skeleton, y, y), expected)
    torch.testing.assert_close(InfoNCELoss(1)(image, skeleton, y, y), expected)
    torch.testing.assert_close(SupConLoss(1)(image, skeleton, y, y), expected)


def test_n_pair_never_counts_a_row_of_the_same_case_as_negative():
    y = torch.tensor([0, 1, 0, 2, 1, 0])
    similarity = embeddings(6, 6)[0]
    basis = torch.eye(6)  # the similarities to it are the embeddings themselves
    own_case = (y[:, None] == y) & ~torch.eye(6, dtype=torch.bool)
    loss = NPairLoss(1)(similarity, basis, y, y)
    gradient = torch.autograd.grad(loss, similarity)[0]
    assert (gradient[own_case] == 0).all()
    assert (gradient[~own_case] != 0).all()
    for change in (-7.0, 3.0, 1e4):
        assert NPairLoss(1)(similarity + change * own_case, basis, y, y) == loss
    different = y[:, None] != y
    assert NPairLoss(1)(similarity + 3.0 * different, basis, y, y) > loss


def test_n_pair_of_an_anchor_ignores_the_embeddings_of_its_own_case():
    # Row 2, the only one of another case, has length zero, and so similarity 0 to everything: what
    # rows 0 and 1 cost is a matter of their own pairs alone.
    y = [0, 0, 1]
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    for other in ([0.0, 1.0], [5.0, -3.0], [-100.0, 100.0]):
        image[1] = torch.tensor(other)
        skeleton = image.clone()
        own = softplus(-1) + softplus(-sum(v * v for v in other)) + math.log(3)
        assert value(NPairLoss(1), image, skeleton, y) == pytest.approx(own / 3, rel=1e-6)


@pytest.mark.parametrize("name", ALL_PAIRS)
def test_the_order_of_rows_does_not_matter(name):
    loss = make(name)
    y = torch.tensor([0, 0, 1, 2, 1, 0, 3, 3])
    order = torch.tensor([5, 2, 7, 0, 3, 6, 1, 4])
    image, skeleton = embeddings(8)
    before = loss(image, skeleton, y, y)
    after = loss(image[order], skeleton[order], y[order], y[order])
    torch.testing.assert_close(before, after)
    for one, other in zip(
        torch.autograd.grad(before, [image, skeleton]),
        torch.autograd.grad(after, [image, skeleton]),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", ALL_PAIRS)
def test_both_directions_count_alike(name):
    loss = make(name)
    y = torch.tensor([0, 0, 1, 2, 1])
    image, skeleton = embeddings(5)
    torch.testing.assert_close(loss(image, skeleton, y, y), loss(skeleton, image, y, y))


def test_info_nce_by_hand():
    # Every other row is a negative, also of the same case.
    exp = math.exp
    images_first = (
        math.log(1 + exp(0 - 2) + exp(4 - 2))
        + math.log(1 + exp(1 - 1) + exp(3 - 1))
        + math.log(1 + exp(1 - 1) + exp(-1 - 1))
    )
    skeletons_first = (
        math.log(1 + exp(1 - 2) + exp(1 - 2))
        + math.log(1 + exp(0 - 1) + exp(-1 - 1))
        + math.log(1 + exp(4 - 1) + exp(3 - 1))
    )
    expected = (images_first + skeletons_first) / 6
    assert expected == pytest.approx(1.574860, abs=1e-6)
    assert value(InfoNCELoss(1), IMAGES, SKELETONS, Y) == pytest.approx(expected, rel=1e-6)
    halves = value(InfoNCELoss(0.5), torch.tensor(IMAGES) / 2, SKELETONS, Y)
    assert halves == pytest.approx(expected, rel=1e-6)


def test_sup_con_by_hand():
    # The mean over the positives of log softmax; rows 0 and 1 are positives of each other.
    def one_direction(s):
        log_softmax = [[v - math.log(sum(map(math.exp, row))) for v in row] for row in s]
        return -(
            (log_softmax[0][0] + log_softmax[0][1]) / 2
            + (log_softmax[1][0] + log_softmax[1][1]) / 2
            + log_softmax[2][2]
        )

    expected = (
        one_direction([[2, 0, 4], [1, 1, 3], [1, -1, 1]])
        + one_direction([[2, 1, 1], [0, 1, -1], [4, 3, 1]])
    ) / 6
    assert expected == pytest.approx(1.908194, abs=1e-6)
    assert value(SupConLoss(1), IMAGES, SKELETONS, Y) == pytest.approx(expected, rel=1e-6)


def test_sigmoid_by_hand():
    # At temperature 1 the logits start as similarity - 1; all nine pairs are decided, by row sum.
    same = [2, 0, 1, 1, 1]  # i0 and i1 with s0 and s1; i2 with s2
    different = [4, 3, 1, -1]
    expected = (sum(softplus(-(s - 1)) for s in same) + sum(softplus(s - 1) for s in different)) / 3
    assert expected == pytest.approx(3.233852, abs=1e-6)
    assert value(SigmoidLoss(1), IMAGES, SKELETONS, Y) == pytest.approx(expected, rel=1e-6)


def test_sigmoid_starts_at_its_temperature_and_learns_scale_and_bias():
    loss = SigmoidLoss(0.1)
    assert loss.log_scale.exp().item() == pytest.approx(10, rel=1e-6)
    assert loss.bias.item() == -10
    image, skeleton = embeddings(5)
    y = torch.tensor([0, 0, 1, 2, 1])
    loss(image, skeleton, y, y).backward()
    assert all(p.grad.abs() > 0 for p in loss.parameters())


@pytest.mark.parametrize("name", ALL_PAIRS)
def test_large_similarities_are_finite(name):
    y = torch.tensor([0, 0, 1, 2])
    for scale in (1e3, 1e6):
        image, skeleton = embeddings(4, scale=scale)
        loss = LOSSES[name]({"temperature": 0.1})(image, skeleton, y, y)
        gradients = torch.autograd.grad(loss, [image, skeleton])
        assert torch.isfinite(loss)
        assert all(torch.isfinite(g).all() for g in gradients)
    zero = torch.zeros(4, 4, requires_grad=True)
    loss = make(name)(zero, zero, y, y)
    assert torch.isfinite(torch.autograd.grad(loss, zero)[0]).all()


def test_n_pair_of_one_case_is_zero():
    for n in (1, 4):
        image, skeleton = embeddings(n)
        y = torch.zeros(n, dtype=torch.long)
        loss = NPairLoss()(image, skeleton, y, y)
        assert loss == 0
        for gradient in torch.autograd.grad(loss, [image, skeleton]):
            assert (gradient == 0).all()


# ---- pairwise ------------------------------------------------------------------------------------


def test_binary_cross_entropy_decides_on_the_concatenation():
    loss = BinaryCrossEntropyLoss(4, hidden_dim=8)
    joined = nn.Linear(8, 8)
    with torch.no_grad():
        joined.weight.copy_(torch.cat([loss.image.weight, loss.skeleton.weight], dim=1))
        joined.bias.copy_(loss.image.bias)
    image, skeleton = embeddings(5)
    expected = loss.output(torch.relu(joined(torch.cat([image, skeleton], dim=1))))[:, 0]
    torch.testing.assert_close(loss.pair_logits(image, skeleton), expected)
    matrix = loss.pair_logits(image[:, None], skeleton[None])
    assert matrix.shape == (5, 5)
    torch.testing.assert_close(matrix.diagonal(), expected)


def test_binary_cross_entropy_by_hand():
    loss = BinaryCrossEntropyLoss(2, hidden_dim=1)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.fill_(1.0)  # logit = relu(sum of all four numbers + 1) + 1
    # Two rows of two cases, so that the different pairs are image 0 with skeleton 1 and 1 with 0.
    images, skeletons = [[1.0, 0.0], [-2.0, 0.0]], [[0.0, 1.0], [0.0, -1.0]]
    same = [4.0, 1.0]  # 1 + 1 + 1 + 1; relu(-2 - 1 + 1) + 1
    different = [2.0, 1.0]  # 1 - 1 + 1 + 1; relu(-2 + 1 + 1) + 1
    expected = (sum(softplus(-x) for x in same) + sum(map(softplus, different))) / 4
    assert expected == pytest.approx(0.942900, abs=1e-6)
    assert value(loss, images, skeletons, [0, 1]) == pytest.approx(expected, rel=1e-6)


def test_contrastive_by_hand():
    images, skeletons = [[0.0, 0.0], [3.0, 0.0]], [[0.0, 2.0], [3.0, 1.0]]
    # same pairs are 2 and 1 apart: 4 + 1; different ones sqrt(10) and sqrt(13)
    expected = (4 + 1 + (4 - 10**0.5) ** 2 + (4 - 13**0.5) ** 2) / 4
    assert value(ContrastiveLoss(4), images, skeletons, [0, 1]) == pytest.approx(expected, rel=1e-5)
    assert value(ContrastiveLoss(3), images, skeletons, [0, 1]) == pytest.approx(5 / 4, rel=1e-5)


def test_triplet_by_hand():
    images, skeletons = [[0.0, 0.0], [3.0, 0.0]], [[0.0, 2.0], [3.0, 1.0]]
    # anchors: i0 (positive at 2, negative at sqrt(10)), i1 (1, sqrt(13)), s0 (2, sqrt(13)),
    # s1 (1, sqrt(10))
    near, far = 10**0.5, 13**0.5
    expected = ((2 - near + 3) + (1 - far + 3) + (2 - far + 3) + (1 - near + 3)) / 4
    assert value(TripletLoss(3), images, skeletons, [0, 1]) == pytest.approx(expected, rel=1e-5)
    expected = ((2 - near + 2) + (2 - far + 2)) / 4  # the others are past the margin
    assert value(TripletLoss(2), images, skeletons, [0, 1]) == pytest.approx(expected, rel=1e-5)


def test_pairwise_losses_see_as_many_same_as_different_pairs(monkeypatch):
    seen = {True: 0, False: 0}
    y = torch.tensor([0] * 50 + [1] * 3 + [2])
    image, skeleton = (y[:, None] * torch.ones(4) for _ in range(2))

    def count(self, image, skeleton):
        same = (image[:, 0] == skeleton[:, 0]).tolist()
        for pair in same:
            seen[pair] += 1
        return image[:, 0] * 0.0

    monkeypatch.setattr(BinaryCrossEntropyLoss, "pair_logits", count)
    for _ in range(10):
        make("binary_cross_entropy")(image, skeleton, y, y)
    assert seen == {True: 540, False: 540}
    # An embedding that says nothing costs log 2 whatever the frequencies.
    assert make("binary_cross_entropy")(image, skeleton, y, y).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("name", PAIRWISE)
def test_negatives_are_drawn_from_all_rows_of_other_cases(name):
    y = torch.tensor([0, 0, 0, 1, 1, 2])
    image, skeleton = embeddings(6)
    touched = torch.zeros(6, dtype=torch.bool)
    values = set()
    loss = make(name) if name == "binary_cross_entropy" else LOSSES[name]({"margin": 100.0})
    for _ in range(60):
        found = loss(image, skeleton, y, y)
        values.add(round(found.item(), 6))
        gradient = torch.autograd.grad(found, skeleton)[0]
        touched |= gradient.abs().sum(1) > 0
    assert touched.all()
    assert len(values) > 10


def test_a_negative_is_always_of_another_case():
    # Same-case rows coincide, and other cases are beyond the margin: a negative of the anchor's
    # own case would cost, others do not.
    y = torch.tensor([0] * 20 + [1] * 2 + [2])
    points = 10.0 * F.one_hot(y).float()
    for _ in range(20):
        assert ContrastiveLoss(1)(points, points, y, y) == 0
        assert TripletLoss(1)(points, points, y, y) == 0


@pytest.mark.parametrize("name", PAIRWISE)
def test_pairwise_losses_of_one_case_have_same_pairs_alone(name):
    image, skeleton = embeddings(4)
    y = torch.zeros(4, dtype=torch.long)
    loss = make(name)
    found = loss(image, skeleton, y, y)
    expected = {
        "binary_cross_entropy": lambda: F.softplus(-loss.pair_logits(image, skeleton)).mean() / 2,
        "contrastive": lambda: (image - skeleton).square().sum(1).mean() / 2,
        "triplet": lambda: torch.tensor(0.0),
    }[name]()
    torch.testing.assert_close(found, expected)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(found, [image, skeleton]))


# ---- all -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_flow_to_both_kinds_and_to_what_the_loss_learns(name):
    loss = make(name)
    image, skeleton = embeddings(8)
    y = torch.tensor([0, 0, 1, 2, 1, 0, 3, 3])
    found = loss(image, skeleton, y, y)
    assert found.shape == ()
    found.backward()
    for e in (image, skeleton):
        assert (e.grad.abs().sum(1) > 0).all()
    assert all(p.grad is not None and (p.grad != 0).any() for p in loss.parameters())


@pytest.mark.parametrize("name", LOSSES)
def test_coinciding_embeddings_have_finite_gradients(name):
    image = torch.ones(4, 4, requires_grad=True)
    skeleton = torch.ones(4, 4, requires_grad=True)
    y = torch.tensor([0, 0, 1, 2])
    found = make(name)(image, skeleton, y, y)
    assert torch.isfinite(found)
    assert all(torch.isfinite(g).all() for g in torch.autograd.grad(found, [image, skeleton]))


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_falls_where_cases_are_told_apart(name):
    loss = make(name)
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    apart = F.one_hot(y, 4).float()
    mixed = apart[[2, 0, 4, 3, 1, 5]]
    if name == "binary_cross_entropy":  # its classifier has to learn first what "same" looks like
        optimizer = torch.optim.Adam(loss.parameters(), lr=0.03)
        for _ in range(150):
            optimizer.zero_grad()
            loss(apart, apart, y, y).backward()
            optimizer.step()
    assert loss(apart, apart, y, y) < loss(apart, mixed, y, y)


# ---- what is added to a loss ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "a", "b"),
    [
        ([0, 1, 0, 1], [0, 1], [2, 3]),
        ([1, 0, 1, 0, 1], [1, 0], [3, 2]),  # row 4 is left out
        ([0, 1, 2, 0, 0, 1, 1], [0, 4, 5], [3, 4, 6]),  # row 4 has no partner
        ([0, 1, 2], [0], [0]),
        ([0], [], []),
    ],
)
def test_within_kind_compares_one_half_with_the_other(y, a, b):
    image, skeleton = embeddings(len(y))
    y = torch.tensor(y)
    loss = NPairLoss()
    expected = loss(image, skeleton, y, y)
    for x in (image, skeleton):
        if a:
            expected = expected + 0.7 * loss(x[a], x[b], y[a], y[b])
    assert MatchingLoss(loss, within_kind=0.7)((image, skeleton), y).item() == pytest.approx(
        expected.item()
    )


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "binary_cross_entropy"])
def test_within_kind_counts_in_every_symmetric_loss(name):
    y = torch.tensor([0, 0, 1, 1])
    both = embeddings(4)
    torch.manual_seed(0)
    across = MatchingLoss(make(name))(both, y)
    torch.manual_seed(0)
    assert MatchingLoss(make(name), within_kind=1.0)(both, y) > across


def test_within_kind_leaves_losses_alone_that_tell_the_kinds_apart():
    class KindsDiffer(nn.Module):
        def forward(self, image, skeleton, y_image, y_skeleton):
            assert skeleton.min() > image.max()
            return (image + skeleton).mean()

    y = torch.zeros(4, dtype=int)
    image = torch.zeros(4, 4, requires_grad=True)
    for loss in (KindsDiffer(), make("binary_cross_entropy")):
        torch.manual_seed(0)
        plain = loss(image, image + 1, y, y)
        torch.manual_seed(0)
        assert MatchingLoss(loss, within_kind=1.0)((image, image + 1), y) == plain


def test_embedding_l2_is_the_mean_squared_length_of_both_kinds():
    y = torch.tensor([0, 0, 1])
    image, skeleton = torch.tensor(IMAGES), torch.tensor(SKELETONS, requires_grad=True)
    loss = NPairLoss()
    # squared lengths: images 4, 2, 2; skeletons 1, 1, 5
    assert MatchingLoss(loss, embedding_l2=0.3)((image, skeleton), y).item() == pytest.approx(
        loss(image, skeleton, y, y).item() + 0.3 * (8 / 3 + 7 / 3)
    )


# ---- the losses of pytorch-metric-learning -------------------------------------------------------


def test_adapter_of_metric_learning_agrees_with_our_own():
    from pytorch_metric_learning.losses import SupConLoss as Theirs

    image, skeleton = F.normalize(
        torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    y = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2])
    ours = SupConLoss(temperature=0.2)(image, skeleton, y, y)
    theirs = MetricLearningLoss(Theirs(temperature=0.2))(image, skeleton, y, y)
    torch.testing.assert_close(theirs, ours)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MultiSimilarityLoss", "CircleLoss", "TripletMarginLoss"])
def test_losses_of_metric_learning_train_a_matcher(features, name):
    from pytorch_metric_learning import losses

    X, y = features
    loss = MetricLearningLoss(getattr(losses, name)())
    matcher = PairMatcher(loss=loss, max_epochs=20, random_state=0).fit(X, y)
    assert matcher.score(X, y) > 0.9
    assert matcher.history_[-1, "train_loss"] < matcher.history_[0, "train_loss"]


def test_losses_that_the_adapter_refuses():
    from pytorch_metric_learning.losses import MultiSimilarityLoss

    for loss in ("triplet", MultiSimilarityLoss, torch.nn.MSELoss()):
        with pytest.raises(TypeError, match="takes reference embeddings"):
            MetricLearningLoss(loss)


def test_margins_are_the_losses_own_unless_given():
    for name, own in (("contrastive", 2.0), ("triplet", 0.2)):
        assert LOSSES[name]({"margin": None}).margin == own
        assert LOSSES[name]({"margin": 0.0}).margin == 0.0
