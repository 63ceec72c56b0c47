import gzip
from pathlib import Path

import numpy as np
import pytest

from shared.errors import MalformedFile, NoInteractions
from simulations.datasets import load_folder
from simulations.evaluate import leave_last_out


def write(folder: Path, text: str, name: str = "interactions.csv") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_order_decides_and_a_repeat_counts_at_its_last_occurrence(tmp_path: Path) -> None:
    data = load_folder(write(tmp_path, "user,item,timestamp\na,x,3\na,y,1\na,z,2\nb,y,1\na,y,9\n"))
    assert data.order_column == "timestamp"
    assert [data.item_ids[item] for item in data.histories.history(0)] == ["z", "x", "y"]


def test_compressed_files_and_given_test_items_are_read(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "interactions.csv.gz", "wt", encoding="utf-8") as lines:
        lines.write("user,item,position,split\na,x,0,train\na,y,1,train\na,z,2,test\nb,x,0,train\nb,y,1,train\n")
    data = load_folder(tmp_path)
    assert data.targets is not None
    assert data.targets.tolist() == [data.item_ids.index("z"), -1]
    split = leave_last_out(data)
    assert split.test.targets.tolist() == [data.item_ids.index("z")]
    assert [data.item_ids[i] for i in split.validation.targets] == ["y", "y"]


def test_leave_last_out_nests_validation_inside_training(tmp_path: Path) -> None:
    data = load_folder(write(tmp_path, "user,item\na,w\na,x\na,y\nb,w\nb,x\nc,w\n"))
    split = leave_last_out(data)
    names = [[data.item_ids[i] for i in split.train.history(u)] for u in range(3)]
    assert names == [["w", "x"], ["w"], ["w"]]
    assert [data.item_ids[i] for i in split.test.targets] == ["y", "x"]
    assert [data.item_ids[i] for i in split.validation.targets] == ["x"]
    assert split.tuning_train.lengths.tolist() == [1, 1, 1]


def test_thresholds_keep_what_they_say(tmp_path: Path) -> None:
    folder = write(tmp_path, "user,item,rating,liked\na,x,5,1\na,y,3,0\na,z,4,1\n")
    assert len(load_folder(folder, min_rating=4).histories.items) == 2
    assert len(load_folder(folder, liked=True).histories.items) == 2
    with pytest.raises(NoInteractions, match="loosen"):
        load_folder(folder, min_rating=6)


def test_public_text_becomes_features_of_the_listed_items(tmp_path: Path) -> None:
    write(tmp_path, "user,item\na,x\na,y\nb,z\n")
    write(tmp_path, "item,title,text\ny,Music,古典音乐\nx,Code,python code\nother,Music,音乐\n", "items.csv")
    features = load_folder(tmp_path).features
    assert features.shape == (3, 3)
    assert np.linalg.norm(features[2]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,thing\na,b\n", "column 'item' is missing"),
        ("user,item\n", "at least one row"),
        ("user,item\na,b\nc\n", "line 3: 1 fields"),
        ("user,item,timestamp\na,b,1\na,c,soon\n", "line 3: timestamp must be a number, got 'soon'"),
        ("user,item,rating\na,b,5\na,c,\n", "ratings are blank"),
        ("user,item,split\na,b,train\na,c,test\na,d,test\n", "more than one row"),
    ],
)
def test_a_bad_file_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    folder = write(tmp_path, text)
    with pytest.raises(MalformedFile, match=message):
        load_folder(folder, min_rating=1 if "rating" in text else None)


def test_a_folder_without_interactions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MalformedFile, match=r"no interactions\.csv"):
        load_folder(tmp_path)
