"""Results folders of nnU-Net: what their card says, which folds are taken, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from segflow.backends.network import activation_bytes
from segflow.errors import ModelError
from segflow.models.card import Card, read_card, write_card
from segflow.models.formats import format_of, is_nnunet_folder, resolve
from segflow.models.load import load_model
from segflow.models.nnunet.folder import folds_of, nnunet_card
from segflow.recipe import ModelChoice
from tests.nnunet.planned import DATASET, configuration, plans, write_fold, write_plans


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = write_plans(tmp_path / "nnUNetTrainer__nnUNetPlans__3d_fullres")
    write_fold(made, "0")
    write_fold(made, "1")
    return made


def card(folder: Path) -> Card:
    return nnunet_card(folder, True)[0]


def test_the_card_says_what_the_plans_say(folder: Path, tmp_path: Path) -> None:
    found, checkpoints = nnunet_card(folder, True)
    assert [path.parent.name for path in checkpoints] == ["fold_0", "fold_1"]
    assert found.orientation == "ikj"  # x of z, y, x first; then z, then y
    assert found.spacing == (3.0, 0.8, 0.7)
    assert (found.patch, found.overlap, found.lattice, found.padding) == ((8, 8, 8), 0.5, "even", "constant")
    assert [(item.id, item.name) for item in found.classes] == [(0, "background"), (1, "liver"), (2, "tumour")]
    assert found.channels == ("CT",)
    assert found.preparation is not None
    (scheme,) = found.preparation.schemes
    assert (scheme.scheme, scheme.lower, scheme.upper, scheme.mean, scheme.deviation) == ("fixed", 12, 170, 90, 40)
    assert (found.preparation.order, found.preparation.order_apart, found.preparation.order_back) == (3, 0, 1)
    assert (found.preparation.apart, found.preparation.apart_back, found.preparation.keep) == (3.0, 3.0, None)
    assert found.arguments["mirror"] == [0, 1, 2]
    training = {"dataset": "Dataset901_made", "plans": "nnUNetPlans", "folds": ["0", "1"], "trainer": "nnUNetTrainer"}
    assert training.items() <= found.training.items()
    write_card(found, tmp_path / "card.yaml")
    assert read_card(tmp_path / "card.yaml") == found


def test_slices_of_a_two_dimensional_configuration_are_not_resampled_across(tmp_path: Path) -> None:
    made = write_plans(tmp_path)
    write_fold(made, init_args={"configuration": "2d"}, inference_allowed_mirroring_axes=(0, 1))
    found = card(made)
    assert found.patch == (1, 8, 8)
    assert found.preparation is not None
    assert found.preparation.keep == 0
    network = load_model(ModelChoice(weights=str(made), trust=True)).network()
    assert network(torch.zeros(1, 1, 1, 8, 8)).shape == (1, 3, 1, 8, 8)


@pytest.mark.parametrize(("reader", "wanted"), [("NibabelIO", "kji"), ("NibabelIOWithReorient", "SAR"),
                                                ("SimpleITKIOWithReorient", "SAR")])  # fmt: skip
def test_readers_decide_how_axes_run(reader: str, wanted: str, tmp_path: Path) -> None:
    made = write_plans(tmp_path, image_reader_writer=reader, transpose_forward=[0, 1, 2])
    write_fold(made)
    assert card(made).orientation == wanted


def test_a_configuration_inherits_and_a_lowres_one_stands_by_itself(tmp_path: Path) -> None:
    made = write_plans(tmp_path)
    write_fold(made, init_args={"configuration": "3d_large"})
    assert card(made).patch == (8, 16, 16)
    lowres = write_plans(tmp_path / "low", configurations={"3d_lowres": configuration(spacing=[4, 2, 2])})
    write_fold(lowres, init_args={"configuration": "3d_lowres"})
    assert card(lowres).spacing == (4, 2, 2)


def test_older_plans_spell_the_same_network_key_by_key(tmp_path: Path) -> None:
    new = configuration()
    kwargs = new.pop("architecture")["arch_kwargs"]
    old = {
        **new,
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "unet_max_num_features": 8,
        "n_conv_per_stage_encoder": kwargs["n_conv_per_stage"],
        "n_conv_per_stage_decoder": kwargs["n_conv_per_stage_decoder"],
        "conv_kernel_sizes": kwargs["kernel_sizes"],
        "pool_op_kernel_sizes": kwargs["strides"],
    }
    state = torch.load(write_fold(write_plans(tmp_path / "new")), weights_only=False)["network_weights"]
    made = write_plans(tmp_path / "old", configurations={"3d_fullres": old})
    write_fold(made)
    network = load_model(ModelChoice(weights=str(made), trust=True)).network()
    assert {f"members.0.{key}" for key in state} == set(network.state_dict())


def test_residual_encoders_are_built_too(tmp_path: Path) -> None:
    changed = configuration()
    changed["architecture"]["network_class_name"] = (
        "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    )
    kwargs = changed["architecture"]["arch_kwargs"]
    kwargs["n_blocks_per_stage"] = kwargs.pop("n_conv_per_stage")
    made = write_plans(tmp_path, configurations={"3d_fullres": changed})
    write_fold(made)
    network = load_model(ModelChoice(weights=str(made), trust=True)).network()
    with torch.inference_mode():
        values = network(torch.randn(1, 1, 8, 8, 8))
    assert values.shape == (1, 3, 8, 8, 8)
    assert 0 <= float(values.min()) <= float(values.max()) <= 1


def test_one_network_is_the_mean_of_all_folds_and_fewer_can_be_chosen(folder: Path) -> None:
    def logits(arguments: dict[str, Any]) -> torch.Tensor:
        network = load_model(ModelChoice(weights=str(folder), trust=True, arguments=arguments)).network()
        with torch.inference_mode():
            values: torch.Tensor = network(torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1)))
        return values

    both, one, two = (logits({"mirror": [], "folds": names}) for names in ([0, 1], ["0"], [1]))
    gap = both - (one + two) / 2  # logits up to a number that is the same for all channels of a cell
    assert torch.allclose(gap, gap.mean(1, keepdim=True), atol=1e-6)
    assert not torch.allclose(both, logits({}), atol=1e-4)  # mirrored


def test_unfinished_folds_count_only_where_none_is_finished(tmp_path: Path) -> None:
    made = write_plans(tmp_path)
    write_fold(made, "0", "checkpoint_best.pth")
    assert [fold.checkpoint.name for fold in folds_of(made)] == ["checkpoint_best.pth"]
    write_fold(made, "all")
    assert [fold.name for fold in folds_of(made)] == ["0"]
    write_fold(made, "3")
    assert [(fold.name, fold.checkpoint.name) for fold in folds_of(made)] == [("3", "checkpoint_final.pth")]
    best = folds_of(made, {"folds": [0], "checkpoint": "checkpoint_best.pth"})
    assert [fold.name for fold in best] == ["0"]


def test_the_hash_covers_plans_and_all_folds(folder: Path) -> None:
    choice = ModelChoice(weights=str(folder), trust=True)
    before = load_model(choice).sha256
    write_fold(folder, "12")
    after = load_model(choice).sha256
    assert before != after
    (folder / "plans.json").write_text(json.dumps(plans(plans_name="others")))
    assert load_model(choice).sha256 not in (before, after)


def test_folders_are_known_by_their_files(folder: Path, tmp_path: Path) -> None:
    assert is_nnunet_folder(folder)
    assert format_of(resolve(folder)).name == "nnunet"
    (folder / "plans.json").unlink()
    assert is_nnunet_folder(folder)
    assert not is_nnunet_folder(tmp_path)
    assert not is_nnunet_folder(folder / "dataset.json")


def refused(folder: Path, said: str, trust: bool = True, **arguments: Any) -> ModelError:
    with pytest.raises(ModelError, match=said) as error:
        load_model(ModelChoice(weights=str(folder), trust=trust, arguments=arguments)).network()
    assert error.value.remedy
    return error.value


def test_without_trust_nothing_is_unpickled(folder: Path) -> None:
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"would not even load")
    error = refused(folder, "can run any code", trust=False)
    assert "--trust" in error.remedy


def test_what_is_missing_is_named(folder: Path) -> None:
    refused(folder, "no checkpoint_final.pth or checkpoint_best.pth of fold 4; it holds fold_0, fold_1", folds=[4])
    refused(folder, "no checkpoint_latest.pth", checkpoint="checkpoint_latest.pth")
    (folder / "dataset.json").unlink()
    refused(folder, "there is no dataset.json")
    (folder / "dataset.json").write_text(json.dumps(DATASET))
    (folder / "plans.json").unlink()
    refused(folder, "there is no plans.json")
    (folder / "plans.json").write_text("{")
    refused(folder, "cannot be read as JSON")
    (folder / "plans.json").write_text(json.dumps({"plans": 1}))
    refused(folder, "lacks configurations")


def test_a_folder_without_folds_is_refused(tmp_path: Path) -> None:
    refused(write_plans(tmp_path), "it holds no folder fold_0")


@pytest.mark.parametrize(("changes", "said"), [
    ({"image_reader_writer": "NaturalImage2DIO"}, "read by NaturalImage2DIO"),
    ({"configurations": {"3d_fullres": configuration(preprocessor_name="Mine")}}, "preprocessor_name .* is Mine"),
    ({"configurations": {"3d_fullres": configuration(resampling_fn_data="resample_torch_fornnunet")}}, "torch"),
    ({"configurations": {"3d_fullres": configuration(normalization_schemes=["Mine"])}}, "the normalisation Mine"),
    ({"configurations": {"3d_fullres": configuration(resampling_fn_probabilities_kwargs={"order": 3})}}, "order 3"),
    ({"configurations": {}}, "no configuration 3d_fullres"),
])  # fmt: skip
def test_what_is_not_done_here_is_refused(folder: Path, changes: dict[str, Any], said: str) -> None:
    (folder / "plans.json").write_text(json.dumps(plans(**changes)))
    refused(folder, said)


def test_a_cascade_is_refused_with_the_reason(tmp_path: Path) -> None:
    made = write_plans(tmp_path)
    write_fold(made, init_args={"configuration": "3d_fullres"})
    checkpoint = torch.load(made / "fold_0" / "checkpoint_final.pth", weights_only=False)
    checkpoint["init_args"] = {"configuration": "3d_cascade_fullres"}
    torch.save(checkpoint, made / "fold_0" / "checkpoint_final.pth")
    error = refused(made, "takes the labels of 3d_lowres as input")
    assert "3d_fullres or 3d_lowres" in error.remedy


def test_weights_of_another_network_and_other_classes_are_refused(folder: Path) -> None:
    other = configuration()
    other["architecture"]["arch_kwargs"]["features_per_stage"] = [4, 6]
    (folder / "plans.json").write_text(json.dumps(plans(configurations={"3d_fullres": other})))
    refused(folder, "does not hold the weights of the network")
    other["architecture"]["network_class_name"] = "os.system"
    (folder / "plans.json").write_text(json.dumps(plans(configurations={"3d_fullres": other})))
    refused(folder, "names the class os.system")
    (folder / "fold_1" / "checkpoint_final.pth").write_bytes(b"\x80\x02cut")
    (folder / "plans.json").write_text(json.dumps(plans()))
    refused(folder, "not a checkpoint of nnU-Net v2")


def test_mirror_axes_that_the_patch_has_not_are_refused(folder: Path) -> None:
    refused(folder, r"mirror is \[3\]", mirror=[3])


def test_memory_does_not_grow_with_folds_and_mirrored_views(folder: Path) -> None:
    def estimate(arguments: dict[str, Any]) -> int:
        network = load_model(ModelChoice(weights=str(folder), trust=True, arguments=arguments)).network()
        return activation_bytes(network, (8, 64, 64), 1, 1)

    one = estimate({"folds": [0], "mirror": []})
    assert one == estimate({}) > 0
