"""Small data sets with a known answer, for the tests of recipes, ranking and experiments."""

import csv
from pathlib import Path

import numpy as np

from shared.interactions import Interactions


def chain_histories(*, num_users: int, num_items: int, length: int, seed: int = 0, step: float = 0.85) -> Interactions:
    """Learners who go from item i to i + 1 with probability `step`, else jump to an item they have not had."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(num_users):
        row = [int(rng.integers(num_items))]
        while len(row) < length:
            following = (row[-1] + 1) % num_items
            if following in row or rng.random() > step:
                following = int(rng.choice(np.setdiff1d(np.arange(num_items), row)))
            row.append(following)
        rows.append(row)
    return Interactions(
        num_items=num_items,
        offsets=np.arange(num_users + 1, dtype=np.int64) * length,
        items=np.array(rows, dtype=np.int32).ravel(),
        weights=np.ones(num_users * length, dtype=np.float32),
    )


def write_folder(folder: Path, history: Interactions, *, text: bool = False) -> Path:
    """The histories as a data set folder; neighbouring items share words when `text` is asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "interactions.csv").open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(["user", "item", "position"])
        for user in range(history.num_users):
            writer.writerows([f"u{user}", f"c{item}", place] for place, item in enumerate(history.history(user)))
    if text:
        with (folder / "items.csv").open("w", newline="", encoding="utf-8") as lines:
            writer = csv.writer(lines)
            writer.writerow(["item", "title", "text"])
            for item in range(history.num_items):
                writer.writerow([f"c{item}", f"Course {item}", f"topic{item // 4} theme{(item + 2) // 4} 数据科学导论"])
    return folder
