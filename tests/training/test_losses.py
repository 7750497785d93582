import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from speakerguard.training.losses import MarginSoftmax, distil_cosine, distil_similarity, triplet


def batch(rows: int = 12, speakers: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    embeddings = normalize(torch.randn(rows, 16, generator=generator), dim=1)
    return embeddings, torch.arange(rows) % speakers


def softmax(margin: float) -> MarginSoftmax:
    torch.manual_seed(0)
    loss = MarginSoftmax(16, 4, scale=30)
    loss.margin = margin
    return loss


def test_margin_zero_is_plain_cross_entropy() -> None:
    embeddings, labels = batch()
    loss = softmax(0.0)
    expected = cross_entropy(30 * embeddings @ normalize(loss.weight, dim=1).T, labels)
    torch.testing.assert_close(loss(embeddings, labels), expected, rtol=1e-4, atol=0)


def test_margin_turns_the_own_class_away_by_its_angle() -> None:
    embeddings, labels = batch()
    loss = softmax(0.3)
    logits = embeddings @ normalize(loss.weight, dim=1).T
    for row, label in enumerate(labels.tolist()):
        logits[row, label] = math.cos(math.acos(logits[row, label].item()) + 0.3)
    expected = cross_entropy(30 * logits, labels)
    torch.testing.assert_close(loss(embeddings, labels), expected, rtol=1e-4, atol=0)
    assert loss(embeddings, labels) > softmax(0.0)(embeddings, labels)


def test_softmax_is_finite_where_an_embedding_lies_on_its_class() -> None:
    loss = softmax(0.2)
    embeddings = normalize(loss.weight.detach(), dim=1).clone().requires_grad_()
    loss(embeddings, torch.arange(4)).backward()
    assert embeddings.grad is not None
    assert torch.isfinite(embeddings.grad).all()


def triplet_by_hand(embeddings: Tensor, labels: Tensor, margin: float) -> float:
    """Every anchor with every positive and its hardest negative, one by one."""
    found = []
    for anchor, own in enumerate(labels.tolist()):
        for positive, same in enumerate(labels.tolist()):
            if own < 0 or same != own or anchor == positive:
                continue
            negatives = [
                float(embeddings[anchor] @ embeddings[other])
                for other, label in enumerate(labels.tolist())
                if label not in (own, -1)
            ]
            cosine = float(embeddings[anchor] @ embeddings[positive])
            found.append(max(0.0, max(negatives) - cosine + margin))
    return sum(found) / len(found)


@pytest.mark.parametrize("margin", [0.0, 0.1, 0.5])
def test_triplet_equals_brute_force(margin: float) -> None:
    embeddings, labels = batch()
    labels[[2, 7]] = -1
    loss = triplet(embeddings, labels, margin)
    assert loss.item() == pytest.approx(triplet_by_hand(embeddings, labels, margin), abs=1e-6)
    assert loss > 0


def test_triplet_is_zero_when_speakers_are_apart() -> None:
    embeddings = torch.eye(3).repeat(2, 1)
    assert triplet(embeddings, torch.tensor([0, 1, 2, 0, 1, 2]), margin=0.1) == 0


@pytest.mark.parametrize("known", [[0], [-1, -1], [0, 1, 2], [1, 1]])
def test_a_batch_without_triplets_costs_nothing_and_still_has_a_gradient(known: list[int]) -> None:
    embeddings = batch(len(known))[0].requires_grad_()
    loss = triplet(embeddings, torch.tensor(known), margin=0.1)
    loss.backward()
    assert loss == 0
    assert embeddings.grad is not None
    assert not embeddings.grad.any()


@pytest.mark.parametrize("loss", [softmax(0.2), lambda e, y: triplet(e, y, 0.3)])
def test_rows_without_label_take_no_part(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    embeddings, labels = batch()
    labels[8:] = -1
    embeddings.requires_grad_()
    value = loss(embeddings, labels)
    torch.testing.assert_close(value, loss(embeddings[:8], labels[:8]))
    value.backward()
    assert embeddings.grad is not None
    assert embeddings.grad[:8].any()
    assert not embeddings.grad[8:].any()


def test_softmax_without_labels_is_zero() -> None:
    embeddings, _ = batch()
    assert softmax(0.2)(embeddings, torch.full((12,), -1)) == 0


@pytest.mark.parametrize("loss", [distil_cosine, distil_similarity])
def test_distillation_is_zero_at_equality_alone(
    loss: Callable[[Tensor, Tensor], Tensor],
) -> None:
    embeddings, _ = batch()
    assert loss(embeddings, embeddings).item() == pytest.approx(0, abs=1e-6)
    assert loss(embeddings, embeddings.flip(0).roll(1, dims=1)).item() > 0.01


def test_distilled_similarity_does_not_mind_rotation() -> None:
    embeddings, _ = batch()
    turned = embeddings @ torch.linalg.qr(torch.randn(16, 16)).Q
    assert distil_similarity(turned, embeddings).item() == pytest.approx(0, abs=1e-6)
    assert distil_cosine(turned, embeddings).item() > 0.1
