import numpy as np
import pytest

from shared.catalogue import CatalogueSnapshot, Item, catalogue_from_bytes
from shared.errors import CatalogueMismatch, MalformedFile, UnknownItem


def snapshot(title: str = "知音", feature: float = 1.0) -> CatalogueSnapshot:
    items = (Item(id="a", title=title, text="古琴"), Item(id="b", title="The guqin", language="en"))
    return CatalogueSnapshot(version=3, items=items, features=np.array([[feature], [0.0]], dtype=np.float32))


def test_bytes_give_back_the_same_snapshot() -> None:
    read = catalogue_from_bytes(snapshot().to_bytes())
    assert read.items == snapshot().items
    assert read.digest == snapshot().digest
    np.testing.assert_array_equal(read.features, snapshot().features)


@pytest.mark.parametrize("changed", [snapshot(title="知己"), snapshot(feature=0.5)])
def test_the_digest_covers_text_and_features(changed: CatalogueSnapshot) -> None:
    assert changed.digest != snapshot().digest


def test_an_unknown_item_is_named() -> None:
    with pytest.raises(UnknownItem, match="'zz' is not in catalogue version 3"):
        snapshot().position("zz")


def test_another_catalogue_is_refused() -> None:
    with pytest.raises(CatalogueMismatch, match="model x is for catalogue 000000000000"):
        snapshot().require("0" * 64, "model x")


def test_two_items_of_one_id_are_refused() -> None:
    with pytest.raises(MalformedFile, match="unique"):
        CatalogueSnapshot(version=1, items=(Item(id="a", title=""),) * 2, features=np.zeros((2, 1), dtype=np.float32))


def test_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(MalformedFile, match="not finite"):
        snapshot(feature=float("nan"))


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xfe\n", snapshot().to_bytes()[:-1], b"[1]\n"])
def test_damaged_bytes_give_one_clear_error(damage: bytes) -> None:
    with pytest.raises(MalformedFile, match="cannot be read"):
        catalogue_from_bytes(damage)
