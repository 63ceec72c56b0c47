import numpy as np

from shared.text_features import _terms, build_text_features


def test_terms_are_character_pairs_in_chinese_and_words_elsewhere() -> None:
    assert list(_terms("数据科学 Python3, and_more: 乐")) == ["数据", "据科", "科学", "python3", "and", "more", "乐"]


def test_texts_on_one_subject_are_alike_and_rows_have_unit_length() -> None:
    features = build_text_features(
        ["古典音乐欣赏", "古典音乐史", "python programming", "advanced python programming"], 3
    )
    assert features.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    alike = features @ features.T
    assert alike[0, 1] > 0.5
    assert alike[2, 3] > 0.5
    assert alike[0, 2] < 0


def test_the_same_texts_give_the_same_bytes() -> None:
    texts = [f"课程 {i} about subject {i % 7} 数据科学" for i in range(50)]
    assert build_text_features(texts, 8).tobytes() == build_text_features(texts, 8).tobytes()


def test_items_without_text_have_a_zero_row() -> None:
    features = build_text_features(["", "物理学导论", "  ?!", "化学导论", "古典音乐"], 4)
    assert not features[[0, 2]].any()
    assert features[[1, 3, 4]].any(axis=1).all()
    assert not build_text_features(["", ""], 4).any()


def test_no_texts_and_few_texts_are_no_special_case() -> None:
    assert build_text_features([], 64).shape == (0, 0)
    assert build_text_features(["one text"], 64).shape == (1, 1)


def test_the_reduction_is_the_leading_part_of_an_exact_decomposition() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(40)]
    texts = [" ".join(rng.choice(words, 12)) for _ in range(60)]
    full = build_text_features(texts, 60).astype(np.float64)
    part = build_text_features(texts, 40).astype(np.float64)
    assert np.corrcoef((full @ full.T).ravel(), (part @ part.T).ravel())[0, 1] > 0.99
