"""A generated knowledge marketplace: institutions with tastes of their own, learners who move along tracks.

Nothing in it is anybody's data. What makes it like the real thing: popularity falls off by Zipf's law, a learner has a
few subjects, goes on along a track more often than not, and turns to new interests with time; the public text says what
a course is about, in Chinese or in English; institutions differ in size and in what their learners come for.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.catalogue import Item
from shared.interactions import Interactions, from_events
from simulations.marketplace_words import FORMS, SUBJECTS

TRACKS_A_SUBJECT = 5


@dataclass(frozen=True, kw_only=True)
class TenantProfile:
    """An institution: its share of all learners, and the subjects (indices) that its learners favour."""

    name: str
    share: float
    favourites: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class TenantHistories:
    """One institution's learners: ids and complete histories, oldest first."""

    name: str
    user_ids: tuple[str, ...]
    interactions: Interactions


@dataclass(frozen=True, kw_only=True, eq=False)
class Marketplace:
    """kinds: "course", "e-book" or "consulting", one for each item."""

    items: tuple[Item, ...]
    kinds: tuple[str, ...]
    tenants: tuple[TenantHistories, ...]


TENANTS = (
    TenantProfile(name="qinghe-university", share=0.42, favourites=(0, 1, 2, 7)),
    TenantProfile(name="lanting-library", share=0.33, favourites=(6, 7, 8, 9, 3)),
    TenantProfile(name="harbour-academy", share=0.25, favourites=(4, 5, 11, 3)),
)


def generate(
    *, seed: int, num_users: int = 10_000, num_items: int = 1_500, tenants: tuple[TenantProfile, ...] = TENANTS
) -> Marketplace:
    """Items and histories of at least four events each; the same seed gives the same marketplace."""
    rng = np.random.default_rng(seed)
    num_tracks = len(SUBJECTS) * TRACKS_A_SUBJECT
    track_of = np.arange(num_items) % num_tracks
    level_of = np.arange(num_items) // num_tracks
    made = [_item(rng, i, int(track_of[i]), int(level_of[i])) for i in range(num_items)]
    popularity = np.asarray((1.0 + rng.permutation(num_items)) ** -0.9, dtype=np.float64)
    sizes = _sizes(num_users, tenants)
    histories = tuple(
        _histories(rng, profile, size, track_of, level_of, popularity)
        for profile, size in zip(tenants, sizes, strict=True)
    )
    items, kinds = zip(*made, strict=True)
    return Marketplace(items=items, kinds=kinds, tenants=histories)


def _sizes(num_users: int, tenants: tuple[TenantProfile, ...]) -> list[int]:
    sizes = [int(num_users * tenant.share) for tenant in tenants]
    sizes[0] += num_users - sum(sizes)
    return sizes


def _item(rng: np.random.Generator, index: int, track: int, level: int) -> tuple[Item, str]:
    (subject_zh, subject_en), tracks = SUBJECTS[track // TRACKS_A_SUBJECT]
    zh, en = tracks[track % TRACKS_A_SUBJECT]
    form_zh, form_en = FORMS[level % len(FORMS)]
    edition = level // len(FORMS)
    kind = "consulting" if form_en.endswith("consulting") else str(rng.choice(["course", "e-book"], p=[0.7, 0.3]))
    if rng.random() < 0.6:
        kind_zh = {"course": "课程", "e-book": "电子书", "consulting": "咨询"}[kind]
        title = f"{zh}：{form_zh}" + (f"（第{edition + 1}版）" if edition else "")
        text = f"{subject_zh}类{kind_zh}，讲解{zh}的{form_zh}。适合想系统学习{zh}、打好{subject_zh}功底的学员。"
        language = "zh-CN"
    else:
        title = f"{en}: {form_en}" + (f" (edition {edition + 1})" if edition else "")
        text = f"A {kind} in {subject_en.lower()}: {en.lower()} {form_en}. For all who want {en.lower()} to last. {zh}"
        language = "en"
    item = Item(id=f"zy-{index:04d}", title=title, category=subject_zh, text=text, language=language)
    return item, kind


def _histories(
    rng: np.random.Generator,
    profile: TenantProfile,
    num_users: int,
    track_of: NDArray[np.int64],
    level_of: NDArray[np.int64],
    popularity: NDArray[np.float64],
) -> TenantHistories:
    num_tracks = int(track_of.max()) + 1
    by_track = [np.flatnonzero(track_of == track) for track in range(num_tracks)]
    favoured = np.full(len(SUBJECTS), 0.7)
    favoured[list(profile.favourites)] = 1.6
    users, items = [], []
    lengths = np.clip(rng.lognormal(2.6, 0.6, num_users), 4, 80).astype(int)
    for user in range(num_users):
        taste = rng.dirichlet(favoured * 0.35)
        path = _path(rng, int(lengths[user]), taste, by_track, popularity)
        users.extend([user] * len(path))
        items.extend(path)
    interactions = from_events(
        users=np.array(users, dtype=np.int64),
        items=np.array(items, dtype=np.int64),
        order=np.arange(len(users), dtype=np.float64),
        num_users=num_users,
        num_items=len(track_of),
    )
    ids = tuple(f"{profile.name}-{user:05d}" for user in range(num_users))
    return TenantHistories(name=profile.name, user_ids=ids, interactions=interactions)


def _path(
    rng: np.random.Generator,
    length: int,
    taste: NDArray[np.float64],
    by_track: list[NDArray[np.int64]],
    popularity: NDArray[np.float64],
) -> list[int]:
    """One learner's items in order: on along the present track, or a new start where taste and popularity lead."""
    seen: dict[int, None] = {}
    track, place = -1, 0
    draws = rng.random((length * 3, 3))
    for stay, pick, jump in draws:
        if len(seen) == length:
            break
        if track < 0 or stay > 0.62:
            subject = int(np.searchsorted(np.cumsum(taste), pick * taste.sum()))
            track = min(subject, len(taste) - 1) * TRACKS_A_SUBJECT + int(jump * TRACKS_A_SUBJECT)
            weights = np.cumsum(popularity[by_track[track]])
            place = int(np.searchsorted(weights, rng.random() * weights[-1]))
        else:
            place += 1 + int(jump * 4)
        if place < len(by_track[track]):
            seen.setdefault(int(by_track[track][place]))
        else:
            track = -1
    return list(seen)
