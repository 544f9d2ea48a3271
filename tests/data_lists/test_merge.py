from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from data_lists import SPLITS, DataListError, DataListWarning, build, load, merge, summary, write


@pytest.fixture
def lists(pictures: Any, make: Any, tmp_path: Path) -> dict[str | Path, str]:
    """Two lists, of ``CHASE`` and of ``photos/HRF`` below the root."""
    make["chase_db1"](pictures, folder="CHASE/")
    make["hrf"](pictures, folder="photos/HRF/")
    write(build("chase_db1", pictures.root / "CHASE", test=0.2), tmp_path / "chase.json")
    write(build("hrf", pictures.root / "photos/HRF"), tmp_path / "hrf.json")
    return {tmp_path / "chase.json": "CHASE", str(tmp_path / "hrf.json"): "photos/HRF"}


def test_merge_keeps_the_splits_and_makes_paths_relative_to_the_root(
    pictures: Any, lists: dict[str | Path, str], tmp_path: Path
) -> None:
    content = merge(pictures.root, lists)

    single = [load(path) for path in lists]
    for split in SPLITS:
        assert len(content[split]) == sum(len(source[split]) for source in single)
        assert content[f"num{split.capitalize()}"] == len(content[split])
        for item in content[split]:
            assert item["patient"].startswith(f"{item['dataset']}_")
            for key in {"image", "label", "fov"} & item.keys():
                assert (pictures.root / item[key]).is_file()
    assert content["name"] == "chase_db1+hrf"
    assert content["sources"] == ["chase_db1", "hrf"]
    assert content["seed"] == 0
    assert content["labels"] == single[0]["labels"]


def test_leave_out_puts_a_whole_dataset_into_test(pictures: Any, lists: dict[str | Path, str]) -> None:
    content = merge(pictures.root, lists, leave_out=["hrf"])

    assert {item["dataset"] for split in ("training", "validation") for item in content[split]} == {"chase_db1"}
    assert [item["dataset"] for item in content["test"]].count("hrf") == 15
    assert content["left_out"] == ["hrf"]


def test_leave_out_of_everything_or_of_something_unknown_is_refused(
    pictures: Any, lists: dict[str | Path, str]
) -> None:
    with pytest.raises(DataListError, match="leaves nothing for training"):
        merge(pictures.root, lists, leave_out=["hrf", "chase_db1"])
    with pytest.raises(DataListError, match="no such dataset; the lists are of chase_db1, hrf"):
        merge(pictures.root, lists, leave_out=["fives"])


def test_of_a_dataset_for_training_only_the_rest_is_left_out(
    pictures: Any, lists: dict[str | Path, str], tmp_path: Path
) -> None:
    chase, hrf = (load(path) for path in lists)

    with pytest.warns(DataListWarning, match="left out by --training_only") as remarks:
        content = merge(pictures.root, lists, training_only=["hrf"])

    assert content["numTraining"] == len(chase["training"]) + len(hrf["training"])
    assert [item["image"] for item in content["validation"]] == [f"CHASE/{i['image']}" for i in chase["validation"]]
    assert content["training_only"] == ["hrf"]
    held_out = [f"photos/HRF/{item['image']}" for item in hrf["validation"]]
    assert list(remarks[0].message.cases) == held_out  # type: ignore[union-attr]

    shutil.copy(pictures.root / "CHASE" / chase["training"][0]["image"], pictures.root / held_out[0])
    with pytest.raises(DataListError, match=f"in training and {held_out[0]} in validation are the same picture"):
        merge(pictures.root, lists, training_only=["hrf"])
    with pytest.raises(DataListError, match="--leave_out and --training_only both name hrf"):
        merge(pictures.root, lists, training_only=["hrf"], leave_out=["hrf"])
    with pytest.raises(DataListError, match="--training_only fives: there is no such dataset"):
        merge(pictures.root, lists, training_only=["fives"])


def test_one_picture_in_two_datasets_and_splits_is_refused(
    pictures: Any, lists: dict[str | Path, str], tmp_path: Path
) -> None:
    training = load(tmp_path / "chase.json")["training"][0]["image"]
    validation = load(tmp_path / "hrf.json")["validation"][0]["image"]
    shutil.copy(pictures.root / "CHASE" / training, pictures.root / "photos/HRF" / validation)

    with pytest.raises(DataListError, match=f"CHASE/{training} in training and photos/HRF/{validation} in validation"):
        merge(pictures.root, lists)


def test_a_wrong_folder_is_refused(pictures: Any, lists: dict[str | Path, str], tmp_path: Path) -> None:
    for folder, message in (
        ("HRF", "is not a folder"),
        ("..", "inside it"),
        (str(pictures.root), "inside it"),
        ("CHASE", r"is missing; check the folder CHASE given for .*hrf\.json"),
    ):
        with pytest.raises(DataListError, match=message):
            merge(pictures.root, {tmp_path / "hrf.json": folder})


def test_a_wrong_list_is_refused(pictures: Any, lists: dict[str | Path, str], tmp_path: Path) -> None:
    with pytest.raises(DataListError, match=r"none\.json cannot be opened"):
        merge(pictures.root, {tmp_path / "none.json": "CHASE"})
    (tmp_path / "text.json").write_text("vessels", encoding="utf-8")
    with pytest.raises(DataListError, match="is not a JSON file"):
        merge(pictures.root, {tmp_path / "text.json": "CHASE"})
    (tmp_path / "other.json").write_text('{"training": []}', encoding="utf-8")
    with pytest.raises(DataListError, match="is not a list made by data_lists"):
        merge(pictures.root, {tmp_path / "other.json": "CHASE"})
    write(merge(pictures.root, lists), tmp_path / "merged.json")
    with pytest.raises(DataListError, match="is a merged list itself"):
        merge(pictures.root, {tmp_path / "merged.json": "."})
    with pytest.raises(DataListError, match="nothing to merge"):
        merge(pictures.root, {})


def test_two_lists_of_one_dataset_need_names(pictures: Any, make: Any, tmp_path: Path) -> None:
    make["image_mask"](pictures, parts=("a/", "b/"))
    for part, name in (("a", None), ("b", None), ("b", "clinic")):
        write(build("image_mask", pictures.root / part, name=name), tmp_path / f"{part}_{name}.json")

    with pytest.raises(DataListError, match="both of image_mask"):
        merge(pictures.root, {tmp_path / "a_None.json": "a", tmp_path / "b_None.json": "b"})

    content = merge(pictures.root, {tmp_path / "a_None.json": "a", tmp_path / "b_clinic.json": "b"})
    assert content["numTraining"] + content["numValidation"] == 12
    patients = {item["patient"] for split in SPLITS for item in content[split]}
    assert patients == {f"{name}_{number}" for name in ("image_mask", "clinic") for number in range(6)}
    assert {item["dataset"] for item in content["training"]} == {"image_mask", "clinic"}


def test_different_labels_are_refused(pictures: Any, lists: dict[str | Path, str], tmp_path: Path) -> None:
    content = load(tmp_path / "hrf.json")
    content["labels"]["1"] = "disc"
    write(content, tmp_path / "hrf.json")

    with pytest.raises(DataListError, match=r"the labels of .*hrf\.json are .*disc.*, those of .*chase\.json"):
        merge(pictures.root, lists)


def test_write_makes_folders_and_leaves_no_other_file(chase: Path, tmp_path: Path) -> None:
    content = build("chase_db1", chase)
    output = tmp_path / "new" / "folder" / "list.json"

    write(content, output)
    write(content, output)

    assert [path.name for path in output.parent.iterdir()] == ["list.json"]
    assert load(output) == content
    assert output.read_text(encoding="utf-8").startswith('{\n    "name": "chase_db1"')


def test_output_that_is_a_folder_is_refused(chase: Path, tmp_path: Path) -> None:
    with pytest.raises(DataListError, match="is a folder; give a file name"):
        write({}, tmp_path)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(DataListError, match="cannot be written"):
        write({}, tmp_path / "file" / "list.json")


def test_a_content_that_cannot_be_written_leaves_the_old_list(chase: Path, tmp_path: Path) -> None:
    output = tmp_path / "list.json"
    write({"old": 1}, output)

    with pytest.raises(TypeError):
        write({"new": object()}, output)

    assert json.loads(output.read_text(encoding="utf-8")) == {"old": 1}
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["list.json"]


def test_summary_counts_images_patients_and_classes(pictures: Any, lists: dict[str | Path, str]) -> None:
    rows = [line.split() for line in summary(merge(pictures.root, lists)).splitlines()]

    assert ["training", "hrf", "12", "12", "DR", "4,", "glaucoma", "4,", "normal", "4"] in rows
    assert ["test", "chase_db1", "2", "1", "-"] in rows


def test_monai_loads_the_list(pictures: Any, lists: dict[str | Path, str], tmp_path: Path) -> None:
    data = pytest.importorskip("monai.data")
    write(merge(pictures.root, lists), tmp_path / "all.json")

    items = data.load_decathlon_datalist(str(tmp_path / "all.json"), True, "validation", str(pictures.root))

    assert items
    for item in items:
        assert Path(item["image"]).is_file()
        assert Path(item["label"]).is_file()
        assert item["dataset"] in ("chase_db1", "hrf")
    assert any(Path(item["fov"]).is_file() for item in items if "fov" in item)


def test_lists_of_volumes_are_merged(pictures: Any, make: Any, tmp_path: Path) -> None:
    for name in ("one", "two"):
        make["duke_dme"](type(pictures)(pictures.root / name), subjects=3 if name == "one" else 2)
    root = pictures.root
    lists: dict[str | Path, str] = {}
    for name in ("one", "two"):
        exclude = ["Subject_01.mat", "Subject_02.mat"] if name == "one" else []
        content = build("duke_dme", root / name, name=name, exclude=exclude, validation=0.5 if name == "two" else 0)
        write(content, tmp_path / f"{name}.json")
        lists[tmp_path / f"{name}.json"] = name

    joined = merge(root, lists)

    assert {item["image"] for item in joined["training"]} >= {"one/Subject_03.mat#2", "one/Subject_03.mat#4"}
    (root / "two" / "Subject_01.mat").unlink()
    with pytest.raises(DataListError, match="is missing; check the folder two"):
        merge(root, lists)
