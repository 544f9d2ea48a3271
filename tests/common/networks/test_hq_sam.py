from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from common.errors import SettingError
from common.networks import HQSAM, HQSAMDecoder, hq_sam
from common.networks.hq_sam import ABSENT, BOX_FIRST, BOX_LAST, NEGATIVE, POSITIVE
from common.networks.hq_sam_export import export_hq_sam
from common.torchvision_compat import ensure_torchvision

SMALL = {"width": 48, "depth": 4, "heads": 2, "global_blocks": (1, 3)}
SIDE = 128
BOX, POINTS = (20, 50, 55, 96), ((40, 70, 1), (64, 30, 0), (90, 30, 1))


def randomise(network: nn.Module) -> None:
    """Give values also to what is zero at the start, so that a part that is forgotten shows."""
    for name, parameter in network.named_parameters():
        if "attention_biases" in name or "rel_pos" in name or "pos_embed" in name:
            nn.init.normal_(parameter, std=0.3)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.3)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)


def package_sam(kind: str, side: int) -> Any:
    """The package's own model with random weights: of vit_b a small one, since the package builds any size of it."""
    ensure_torchvision()
    from segment_anything_hq import sam_model_registry
    from segment_anything_hq.modeling import ImageEncoderViT, MaskDecoderHQ, PromptEncoder, Sam, TwoWayTransformer

    torch.manual_seed(1)
    if kind == "vit_tiny":
        sam = sam_model_registry["vit_tiny"](None)
    else:
        encoder = ImageEncoderViT(
            img_size=side,
            embed_dim=SMALL["width"],
            depth=SMALL["depth"],
            num_heads=SMALL["heads"],
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=14,
            global_attn_indexes=SMALL["global_blocks"],
        )
        transformer = TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=2048)
        decoder = MaskDecoderHQ(transformer_dim=256, transformer=transformer, vit_dim=SMALL["width"])
        prompts = PromptEncoder(256, (side // 16,) * 2, (side, side), mask_in_chans=16)
        sam = Sam(encoder, prompts, decoder, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
    randomise(sam)
    # The package's TinyViT takes over its position biases when it is put into evaluation mode, and only then.
    return sam.train().eval()


@pytest.fixture
def small_vit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(hq_sam._VITS, "vit_b", hq_sam._ViT(**SMALL))  # type: ignore[arg-type]


def picture(side: int) -> NDArray[np.uint8]:
    """A photo ``(H, W, 3)`` that no flip and no transposition gives back."""
    image = np.zeros((128, 128, 3), np.uint8)
    image[..., 0] = np.arange(128)[:, None]
    image[..., 2] = np.arange(128)[None] // 2
    cv2.ellipse(image, (38, 74), (12, 20), 20, 0, 360, (200, 250, 30), cv2.FILLED)
    cv2.circle(image, (90, 30), 9, (30, 60, 240), cv2.FILLED)
    return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def as_input(image: NDArray[np.uint8]) -> torch.Tensor:
    """A photo as the bundle gives it: ``(1, 3, W, H)``, from -1 to 1."""
    return torch.as_tensor(image).permute(2, 1, 0)[None].float() / 127.5 - 1


def prompts_of(scale: float) -> torch.Tensor:
    """A box for the first structure, points for the second, and rows between them that do not count."""
    rows = torch.full((1, 2, 6, 3), float(ABSENT))
    rows[0, 0, 1] = torch.tensor([BOX[0] * scale, BOX[1] * scale, BOX_FIRST])
    rows[0, 0, 4] = torch.tensor([BOX[2] * scale, BOX[3] * scale, BOX_LAST])
    for place, (x, y, kind) in zip((0, 3, 5), POINTS, strict=True):
        rows[0, 1, place] = torch.tensor([x * scale, y * scale, POSITIVE if kind else NEGATIVE])
    return rows


@pytest.mark.parametrize(("kind", "side"), [("vit_tiny", 1024), ("vit_b", SIDE)])
def test_it_is_the_packages_predictor_on_the_same_picture(
    small_vit: None, tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, side: int
) -> None:
    sam = package_sam(kind, side)
    torch.save(sam.state_dict(), tmp_path / "sam.pth")
    capfd.readouterr()
    network = HQSAM(kind, side, checkpoint=tmp_path / "sam.pth", learned_prompts=0).eval()
    from segment_anything_hq import SamPredictor

    predictor, scale = SamPredictor(sam), side / 128
    predictor.set_image(picture(side))
    expected = [
        predictor.predict(box=np.array(BOX) * scale, multimask_output=False, return_logits=True)[0][0],
        predictor.predict(
            point_coords=np.array([point[:2] for point in POINTS]) * scale,
            point_labels=np.array([point[2] for point in POINTS]),
            multimask_output=False,
            return_logits=True,
        )[0][0],
    ]

    with torch.inference_mode():
        found = network(as_input(picture(side)), prompts_of(scale))[0]

    assert found.shape == (2, side, side)
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.std() > 0.05
        np.testing.assert_allclose(ours.numpy().T, theirs, rtol=0, atol=1e-4)
        assert np.abs(ours.numpy() - theirs).max() > 0.05
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("kind", ["vit_b", "vit_l", "vit_h"])
def test_official_sizes_have_the_keys_and_shapes_of_the_package(kind: str) -> None:
    ensure_torchvision()
    from segment_anything_hq import sam_model_registry

    with torch.device("meta"):
        theirs = {key: value.shape for key, value in sam_model_registry[kind](None).state_dict().items()}
        names = ("image_encoder", "prompt_encoder", "mask_decoder")
        parts = nn.ModuleDict(dict(zip(names, hq_sam._sam_parts(kind, 1024), strict=True)))
        whole = HQSAM(kind, 1024)

    assert {key: value.shape for key, value in parts.state_dict().items()} == theirs
    assert sum(value.numel() for value in whole.parameters()) > 0.98 * sum(shape.numel() for shape in theirs.values())


def test_a_checkpoint_of_another_image_size_is_interpolated(small_vit: None, tmp_path: Path) -> None:
    sam = package_sam("vit_b", SIDE)
    torch.save(sam.state_dict(), tmp_path / "sam.pth")

    network = HQSAM("vit_b", 2 * SIDE, checkpoint=tmp_path / "sam.pth").eval()

    encoder: Any = network.image_encoder
    grown, original = encoder.pos_embed[0], sam.image_encoder.pos_embed[0]
    assert grown.shape == (16, 16, SMALL["width"])
    pooled = grown.view(8, 2, 8, 2, -1).mean(dim=(1, 3))
    assert np.corrcoef(pooled.detach().flatten(), original.detach().flatten())[0, 1] > 0.9
    assert encoder.blocks[1].attn.rel_pos_h.shape[0] == 31
    with torch.inference_mode():
        assert network(as_input(picture(2 * SIDE))).shape == (1, 2, 2 * SIDE, 2 * SIDE)


# --- checkpoints that do not fit -------------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(small_vit: None, tmp_path: Path) -> Path:
    path = tmp_path / "sam.pth"
    torch.save(package_sam("vit_b", SIDE).state_dict(), path)
    return path


def test_missing_and_unexpected_keys_are_named(checkpoint: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    state["mask_decoder.other.weight"] = state.pop("mask_decoder.hf_token.weight")
    torch.save(state, checkpoint)

    with pytest.raises(SettingError) as raised:
        HQSAM("vit_b", SIDE, checkpoint=checkpoint)

    assert "missing: mask_decoder.hf_token.weight" in str(raised.value)
    assert "not expected: mask_decoder.other.weight" in str(raised.value)
    assert str(checkpoint) in str(raised.value)


def test_a_checkpoint_of_another_model_is_refused(checkpoint: Path) -> None:
    with pytest.raises(SettingError, match="do not fit the network"):
        HQSAM("vit_tiny", 64, checkpoint=checkpoint)


@pytest.mark.parametrize("form", [str, Path.as_uri])
def test_the_sha256_is_checked(checkpoint: Path, form: Callable[[Path], str]) -> None:
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()

    HQSAM("vit_b", SIDE, checkpoint=form(checkpoint), checkpoint_sha256=digest.upper())
    with pytest.raises(SettingError, match=f"has the SHA-256 {digest}, not {'0' * 64}"):
        HQSAM("vit_b", SIDE, checkpoint=form(checkpoint), checkpoint_sha256="0" * 64)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model_type": "vit_x"}, "model_type is 'vit_x'; give one of vit_tiny, vit_b"),
        ({"image_size": 100}, "image_size is 100; give a multiple of 16"),
        ({"image_size": 0}, "image_size is 0"),
        ({"checkpoint": "/no/such/file.pth"}, "weights /no/such/file.pth do not exist"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingError, match=words):
        HQSAM(**{"image_size": 64, **settings})


# --- the way through the network -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network() -> HQSAM:
    torch.manual_seed(0)
    made = HQSAM(image_size=SIDE)
    randomise(made)
    return made.eval()


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return as_input(picture(SIDE))


@pytest.mark.parametrize("side", [64, 192, 224])
def test_any_image_size(side: int) -> None:
    with torch.inference_mode():
        assert HQSAM(image_size=side).eval()(torch.zeros(2, 3, side, side)).shape == (2, 2, side, side)


def test_an_image_of_another_size_is_refused(network: HQSAM) -> None:
    with pytest.raises(ValueError, match=r"takes images \(B, 3, 128, 128\), not \(1, 3, 128, 64\)"):
        network(torch.zeros(1, 3, 128, 64))


@torch.inference_mode()
def test_rows_that_do_not_count_have_no_influence(network: HQSAM, image: torch.Tensor) -> None:
    prompts = prompts_of(1)
    more = torch.cat([torch.full((1, 2, 4, 3), float(ABSENT)), prompts], dim=2)
    more[:, :, :4, :2] = 77

    torch.testing.assert_close(network(image, more), network(image, prompts), rtol=0, atol=1e-5)
    torch.testing.assert_close(network(image, torch.full((1, 2, 3, 3), -1.0)), network(image), rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_structures_prompts_are_its_own(network: HQSAM, image: torch.Tensor) -> None:
    only_second = prompts_of(1)
    only_second[:, 0] = ABSENT

    change = (network(image, only_second) - network(image)).abs().amax(dim=(0, 2, 3))

    assert change[0] < 1e-5
    assert change[1] > 1e-3


@torch.inference_mode()
def test_a_batch_is_its_images(network: HQSAM, image: torch.Tensor) -> None:
    batch = torch.cat([image, image.flip(2)])
    prompts = torch.cat([torch.full_like(prompts_of(1), ABSENT), prompts_of(1)])

    found = network(batch, prompts)

    torch.testing.assert_close(found[:1], network(batch[:1]), rtol=0, atol=1e-4)
    torch.testing.assert_close(found[1:], network(batch[1:], prompts[1:]), rtol=0, atol=1e-4)


@torch.inference_mode()
def test_weights_loaded_in_evaluation_mode_count(network: HQSAM, image: torch.Tensor) -> None:
    torch.manual_seed(5)
    other = HQSAM(image_size=SIDE).eval()
    other(image)

    other.load_state_dict(network.state_dict())

    torch.testing.assert_close(other(image), network(image), rtol=0, atol=0)


def test_every_structure_has_tokens_of_its_own_and_all_is_trained(image: torch.Tensor) -> None:
    network = HQSAM(image_size=64, structures=3)
    network(image[:, :, :64, :64], torch.rand(1, 3, 2, 3).round()).square().mean().backward()

    assert network.mask_tokens.shape[0] == network.hf_tokens.shape[0] == 3
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


# --- a frozen encoder ------------------------------------------------------------------------------------------------


def test_a_frozen_encoder_does_not_change(image: torch.Tensor) -> None:
    network = HQSAM(image_size=64, freeze_encoder=True).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([part for part in network.parameters() if part.requires_grad], lr=0.1)

    network(image[:, :, :64, :64]).square().mean().backward()
    optimizer.step()

    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    parts = ("hf_tokens", "learned_prompt", "hf_mlp", "compress_vit_feat", "embedding_encoder", "embedding_maskfeature")
    assert all(any(part in name for part in parts) for name in changed)
    assert all(any(part in name for name in changed) for part in parts)


@torch.inference_mode()
def test_a_window_is_a_part_of_the_whole(network: HQSAM, image: torch.Tensor) -> None:
    final, early = network.encode(image)
    whole = network.decode_coarse((final, early), prompts_of(1))

    part = HQSAMDecoder(network)(final, early[:, :, 3:7, 1:5], prompts_of(1), torch.tensor([[1, 3]]))

    assert part.shape == (1, 2, 16, 16)
    # Near its edge the convolutions see that the window ends.
    torch.testing.assert_close(part[:, :, 2:-2, 2:-2], whole[:, :, 6:18, 14:26], rtol=0, atol=1e-5)


def test_gradients_of_the_tokens_are_those_without_short_cuts(network: HQSAM) -> None:
    transformer: Any = network.mask_decoder.transformer
    torch.manual_seed(2)
    keys, position = torch.randn(2, 9, 256), torch.randn(1, 9, 256)
    tokens = torch.randn(4, 7, 256, requires_grad=True)
    weights = torch.randn(4, 2, 256)

    few, few_image = hq_sam._two_way(transformer, keys, position, tokens, None, 2, False)
    (few_gradient,) = torch.autograd.grad((few * weights).sum(), tokens)
    every, image = hq_sam._two_way(transformer, keys, position, tokens, None, 7, False)
    (gradient,) = torch.autograd.grad((every[:, :2] * weights).sum(), tokens)

    assert not few_image.requires_grad
    torch.testing.assert_close(few, every[:, :2], rtol=0, atol=1e-5)
    torch.testing.assert_close(few_image, image, rtol=0, atol=1e-5)
    assert gradient[:, 2:].abs().max() > 1e-3
    torch.testing.assert_close(few_gradient, gradient, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("bfloat16", [False, True])
def test_features_in_half_precision_give_the_masks_of_the_same_values(
    network: HQSAM, image: torch.Tensor, bfloat16: bool
) -> None:
    final, early = (part.half() for part in network.encode(image))
    window = torch.tensor([[1, 3]])
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        kept = HQSAMDecoder(network)(final, early[:, :, 3:7, 1:5], prompts_of(1), window)
        given = HQSAMDecoder(network)(final.float(), early[:, :, 3:7, 1:5].float(), prompts_of(1), window)

    torch.testing.assert_close(kept, given, rtol=0, atol=1e-5)


# --- export ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(network: HQSAM, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return export_hq_sam(network, tmp_path_factory.mktemp("export"))


@torch.inference_mode()
@pytest.mark.parametrize("rows", [6, 1])
def test_exports_give_the_same_output(
    network: HQSAM, exported: dict[str, Path], image: torch.Tensor, rows: int
) -> None:
    prompts = prompts_of(1)[:, :, -rows:]
    features = network.encode(image)
    expected = network.decode_coarse(features, prompts)

    script = torch.jit.load(exported["encoder.ts"])(image)
    logits = torch.jit.load(exported["decoder.ts"])(*script, prompts)
    encoder, decoder = (onnxruntime.InferenceSession(exported[f"{name}.onnx"]) for name in ("encoder", "decoder"))
    onnx = encoder.run(["final", "early"], {"image": image.numpy()})
    values = {"final": onnx[0], "early": onnx[1], "prompts": prompts.numpy()}
    (onnx_logits,) = decoder.run(["logits"], values)

    for ours, one, two in zip(features, script, onnx, strict=True):
        torch.testing.assert_close(one, ours, rtol=0, atol=1e-3)
        np.testing.assert_allclose(two, ours.numpy(), rtol=0, atol=1e-3)
    assert expected.std() > 0.01
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-3)
    np.testing.assert_allclose(onnx_logits, expected.numpy(), rtol=0, atol=1e-3)
