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
    assert features.shape[0] == 4
    assert np.linalg.norm(features[2]) == 0


def test_the_catalogue_is_every_item_of_either_file(tmp_path: Path) -> None:
    write(tmp_path, "user,item,rating\na,x,5\na,y,5\na,z,1\n")
    write(tmp_path, "item,title\nnever,Nobody took it\nx,Music\n", "items.csv")
    data = load_folder(tmp_path, min_rating=4)
    assert data.item_ids == ("x", "y", "z", "never")
    assert data.histories.num_items == 4


def test_repeated_rows_are_merged_and_counted(tmp_path: Path) -> None:
    data = load_folder(write(tmp_path, "user,item\na,x\na,y\na,x\na,x\nb,x\n"))
    assert [data.item_ids[item] for item in data.histories.history(0)] == ["y", "x"]
    assert data.num_repeats == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user,thing\na,b\n", "column 'item' is missing"),
        ("user,item\n", "at least one row"),
        ("user,item\na,b\nc\n", "line 3: 1 fields"),
        ("user,item,timestamp\na,b,1\na,c,soon\n", "line 3: timestamp must be a finite number, got 'soon'"),
        ("user,item,rating\na,b,5\na,c,\n", "line 3: rating is blank; use --liked"),
        ("user,item,split\na,b,train\na,c,test\na,d,test\n", "line 4: a second row of a user"),
        ("user,item,split\na,b,train\na,c,train\na,b,test\n", "line 4: the test item is in the user's training rows"),
        ("user,item,timestamp\n\na,b,1\n\na,c,nan\n", "line 5: timestamp must be a finite number, got 'nan'"),
        ('user,item,note\na,b,"two\nlines"\na,c\n', "line 4: 2 fields"),
        ('user,item\na,"b\n', "line 2: not readable as CSV"),
        ("user,item\na,b\n ,c\n", "line 3: user is blank"),
        ("user,item,user\na,b,c\n", "two columns are called 'user'"),
    ],
)
def test_a_bad_file_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    folder = write(tmp_path, text)
    with pytest.raises(MalformedFile, match=message):
        load_folder(folder, min_rating=1 if "rating" in text else None)


def test_text_that_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "interactions.csv").write_bytes(b"user,item\na,b\na,\xff\xfe\n")
    with pytest.raises(MalformedFile, match="line 3: not UTF-8"):
        load_folder(tmp_path)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b"user,item\n" + b"a,b\n" * 5000)
    (tmp_path / "interactions.csv.gz").write_bytes(whole[:-12])
    with pytest.raises(MalformedFile, match="damaged gzip"):
        load_folder(tmp_path)


def test_too_short_histories_are_refused_with_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(NoInteractions, match="validation item, the test item and one item before them"):
        leave_last_out(load_folder(write(tmp_path, "user,item\na,x\na,y\nb,x\nb,y\n")))


def test_a_folder_without_interactions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MalformedFile, match=r"no interactions\.csv"):
        load_folder(tmp_path)
