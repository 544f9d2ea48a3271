"""What lies in a bundle's folder: the files, the metadata, and how the configs are written."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from common.demo import DEMO_INPUTS

if TYPE_CHECKING:
    from tests.bundles.conftest import Bundle, Command, Data

SCHEMA = Path(__file__).with_name("metadata_schema.json")
CONFIGS = ("metadata", "train", "evaluate", "inference", "multi_gpu_train")

TRAIN_IDS = [
    *("bundle_root", "device", "dataset_dir", "data_list", "output_dir", "network_def", "network", "loss"),
    *("optimizer", "lr_scheduler", "val_interval", "initialize", "run"),
    *("train#dataset", "train#dataset#data", "train#preprocessing", "train#dataloader", "train#inferer"),
    *("train#postprocessing", "train#handlers", "train#key_metric", "train#trainer", "train#trainer#max_epochs"),
    *("validate#dataset", "validate#dataset#data", "validate#preprocessing", "validate#dataloader"),
    *("validate#inferer", "validate#postprocessing", "validate#handlers", "validate#key_metric"),
    "validate#evaluator",
]
INFERENCE_IDS = [
    *("bundle_root", "device", "dataset_dir", "output_dir", "network_def", "preprocessing", "postprocessing"),
    *("dataset", "inferer", "evaluator", "handlers", "initialize", "run"),
]
TRAIN_ORDER = [
    *("imports", "bundle_root", "dataset_dir", "network_def", "network", "loss", "optimizer", "lr_scheduler"),
    *("train", "validate", "initialize", "run"),
]
INFERENCE_ORDER = [
    *("imports", "bundle_root", "dataset_dir", "preprocessing", "dataset", "network_def", "network", "inferer"),
    *("postprocessing", "handlers", "evaluator", "initialize", "run"),
]


def test_every_folder_is_in_the_table(bundle_names: list[str]) -> None:
    folders = Path(__file__).resolve().parents[2] / "bundles"

    assert sorted(path.name for path in folders.iterdir() if path.is_dir()) == sorted(bundle_names)


def test_the_name_ends_in_the_task(bundle: Bundle) -> None:
    assert bundle.name.endswith(("_segmentation", "_classification"))


@pytest.mark.parametrize(
    "name", ["LICENSE", "docs/README.md", "docs/data_license.txt", "configs/logging.conf", "models/model.pt"]
)
def test_file_is_there(bundle: Bundle, name: str) -> None:
    assert (bundle.root / name).stat().st_size > 0


def test_it_has_no_code(bundle: Bundle) -> None:
    assert not list(bundle.root.rglob("*.py"))


@pytest.mark.parametrize(
    "heading",
    [
        *("overview", "data", "preprocessing", "network", "training", "performance", "command"),
        *("limitation", "intended use", "reference", "license"),
    ],
)
def test_the_readme_covers(bundle: Bundle, heading: str) -> None:
    readme = (bundle.root / "docs" / "README.md").read_text(encoding="utf-8").lower()

    assert heading in readme


def test_the_demonstration_shows_it(bundle: Bundle) -> None:
    if not (bundle.root / "models" / "model.pt").is_file():
        pytest.skip(f"{bundle.name} has no models/model.pt")

    assert bundle.name in DEMO_INPUTS, "add a line to DEMO_INPUTS of common/demo.py"


@pytest.mark.parametrize("name", CONFIGS)
def test_config_is_json_with_an_indent_of_four(bundle: Bundle, name: str) -> None:
    text = (bundle.root / "configs" / f"{name}.json").read_text(encoding="utf-8")

    assert text == json.dumps(json.loads(text), indent=4, ensure_ascii=False) + "\n"


def test_metadata_follow_the_schema(bundle: Bundle) -> None:
    metadata = bundle.read("metadata")

    jsonschema.validate(metadata, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert metadata["version"] in metadata["changelog"]
    outputs = metadata["network_data_format"]["outputs"]["pred"]
    assert all(value > 0 for value in metadata["eval_metrics"].values()), "eval_metrics has a value nobody measured"
    assert len(outputs["channel_def"]) == outputs["num_channels"]
    assert bundle.parts == [name for name in outputs["channel_def"].values() if name in bundle.parts]


@pytest.mark.parametrize("missing", ["version", "changelog", "intended_use", "network_data_format"])
def test_the_schema_notices_what_is_missing(bundle: Bundle, missing: str) -> None:
    metadata = {name: value for name, value in bundle.read("metadata").items() if name != missing}

    with pytest.raises(jsonschema.ValidationError, match=missing):
        jsonschema.validate(metadata, json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_the_versions_are_the_pinned_ones(bundle: Bundle) -> None:
    text = (Path(__file__).resolve().parents[2] / "requirements.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", text, flags=re.MULTILINE))
    metadata = bundle.read("metadata")

    assert metadata["monai_version"] == pinned["monai"]
    assert metadata["pytorch_version"] == pinned["torch"]
    assert metadata["numpy_version"] == pinned["numpy"]
    named = metadata["required_packages_version"]
    assert named == {name: pinned.get(name) for name in named}


def test_verify_metadata(bundle: Bundle, command: Command, tmp_path: Path) -> None:
    meta_file = str(bundle.root / "configs" / "metadata.json")

    printed = command(tmp_path, "verify_metadata", meta_file=meta_file, filepath=str(SCHEMA))

    assert "metadata is verified with no error" in printed


@pytest.mark.parametrize(("config", "ids"), [("train", TRAIN_IDS), ("inference", INFERENCE_IDS)])
def test_ids_are_there(bundle: Bundle, config: str, ids: list[str]) -> None:
    def holds(content: Any, path: list[str]) -> bool:
        return not path or (isinstance(content, dict) and path[0] in content and holds(content[path[0]], path[1:]))

    content = bundle.read(config)

    assert [name for name in ids if not holds(content, name.split("#"))] == []


def test_handlers_are_a_list_of_components(bundle: Bundle) -> None:
    for handlers in (bundle.read("train")["train"]["handlers"], bundle.read("inference")["handlers"]):
        assert handlers
        assert all(isinstance(entry, dict) for entry in handlers)  # MONAI looks into each of them


@pytest.mark.parametrize(("config", "order"), [("train", TRAIN_ORDER), ("inference", INFERENCE_ORDER)])
def test_keys_are_in_the_agreed_order(bundle: Bundle, config: str, order: list[str]) -> None:
    assert [name for name in bundle.read(config) if name in order] == order


def test_inference_needs_no_metadata(bundle: Bundle) -> None:
    assert "_meta_" not in (bundle.root / "configs" / "inference.json").read_text(encoding="utf-8")


def expressions(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        content = list(content.values())
    if isinstance(content, list):
        for part in content:
            yield from expressions(part)
    elif isinstance(content, str) and content.startswith("$"):
        yield content


@pytest.mark.parametrize("config", CONFIGS[1:])
def test_no_expression_is_longer_than_one_call(bundle: Bundle, config: str) -> None:
    for expression in expressions(bundle.read(config)):
        code = re.sub(r"@[\w#]+", "reference", expression[1:])
        if code.startswith(("import ", "from ")):
            continue
        tree = ast.parse(code, mode="eval")
        # A condition may ask whether there is a GPU.
        calls = [
            ast.unparse(node.func)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and ast.unparse(node) != "torch.cuda.is_available()"
        ]
        assert len(calls) <= 1, expression
        assert not any(isinstance(node, ast.comprehension) for node in ast.walk(tree)), expression
        assert len(expression) <= 110, expression


def test_monai_finds_every_property_of_the_training(
    bundle: Bundle, data: Data, workflow: Callable[..., Any], tmp_path: Path
) -> None:
    made = workflow(
        bundle,
        "train",
        output_dir=str(tmp_path),
        network_def=bundle.tiny,
        cache_rate=0,
        **bundle.settings,
        **data.options,
    )
    made.initialize()

    assert made.check_properties() == []
    assert made.max_epochs == bundle.read("train")["epochs"]
    assert len(made.train_dataset_data) == 4
    assert len(made.val_dataset_data) == 3


def test_monai_finds_every_property_of_the_inference(
    bundle: Bundle, data: Data, workflow: Callable[..., Any], blue: dict[str, Any], tmp_path: Path
) -> None:
    made = workflow(bundle, "inference", output_dir=str(tmp_path), dataset_dir=str(data.root / "image"), **blue)
    made.initialize()

    assert made.check_properties() == []
    assert len(made.dataset_data) == 7
