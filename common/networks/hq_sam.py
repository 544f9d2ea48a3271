"""HQ-SAM: segmentation of several structures that clicks and boxes can steer.

Ke et al., "Segment Anything in High Quality", NeurIPS 2023, on Kirillov et al., "Segment Anything", ICCV 2023. The
modules, and so the keys of the official checkpoints, are those of the package `segment-anything-hq`; what is written
here is the way through them: any image size, batches of images, several structures, prompts of different number.

One image, many prompts (what an annotation tool does):

    features = network.encode(image)              # once per image: the slow part
    logits = network.decode(features, prompts)    # once per click: the fast part

`network(image, prompts)` is both. `common.inferers.PromptInferer` does this on whole photos: it finds the square around
the disc, keeps it with its features, and maps the prompts from the photo into it.

Images are ``(B, 3, W, H)``, as everywhere in this project, with values from -1 (black) to 1. The encoder sees them
upright and normalised as SAM's were; `encode` and `decode` turn and scale them, so nobody else has to.

Prompts are one tensor ``(B, S, N, 3)`` for S structures: each row is ``(x, y, kind)``, in pixels of the image that was
encoded, x along W and y along H, and its kind is `POSITIVE`, `NEGATIVE`, `BOX_FIRST` (the corner with the smallest x
and y), `BOX_LAST` (the opposite corner) or `ABSENT` (the row does not count, and has no influence whatever).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from common.errors import SettingError
from common.networks.weights import load_state, read_checkpoint
from common.torchvision_compat import ensure_torchvision

ABSENT, NEGATIVE, POSITIVE, BOX_FIRST, BOX_LAST = -1, 0, 1, 2, 3
"""Kinds of a row of a prompt; those that count have the numbers of SAM's own labels."""

PATCH = 16
"""Pixels of the image for each step of the encoder's output."""
_DIM = 256
_MASK_TOKENS = 4
_PIXEL_MEAN, _PIXEL_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
# A classifier's head that the checkpoints of vit_tiny carry and SAM does not use.
_UNUSED = ("image_encoder.norm_head.", "image_encoder.head.")
# What HQ-SAM adds to SAM, and with it all that is trained when the encoder is frozen.
_HQ_PARTS = (
    "hf_tokens",
    "learned_prompt",
    "hf_mlp.",
    "compress_vit_feat.",
    "embedding_encoder.",
    "embedding_maskfeature.",
)


@dataclass(frozen=True)
class _ViT:
    """Size of a plain vision transformer of SAM."""

    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]


_VITS = {
    "vit_b": _ViT(768, 12, 12, (2, 5, 8, 11)),
    "vit_l": _ViT(1024, 24, 16, (5, 11, 17, 23)),
    "vit_h": _ViT(1280, 32, 16, (7, 15, 23, 31)),
}
MODEL_TYPES = ("vit_tiny", *_VITS)


class Features(NamedTuple):
    """What the encoder makes of images, upright; all that `HQSAM.decode` needs.

    Attributes:
        final: ``(B, 256, G, G)``, with G = image_size / 16.
        early: ``(B, C, G, G)``, after the first global attention (vit_tiny: after its second stage).
    """

    final: torch.Tensor
    early: torch.Tensor


class _ChannelNorm(nn.Module):
    """The package's ``LayerNorm2d``, over the channels at each place, in one kernel instead of six."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Normalise ``(B, C, H, W)``."""
        last = inputs.permute(0, 2, 3, 1)
        return functional.layer_norm(last, self.weight.shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class _WindowAttention(nn.Module):
    """The attention of TinyViT, with the package's keys.

    The package's own keeps a copy of the position biases from when it was last put into evaluation mode, and goes on
    using it when weights are loaded or averaged afterwards. This one always uses the weights that it has.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.heads, self.scale = attention.num_heads, attention.scale
        self.key_dim, self.value_dim = attention.key_dim, attention.d
        self.norm, self.qkv, self.proj = attention.norm, attention.qkv, attention.proj
        self.attention_biases = attention.attention_biases
        self.attention_bias_idxs: torch.Tensor
        self.register_buffer("attention_bias_idxs", attention.attention_bias_idxs, persistent=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Attend within windows: ``(windows, tokens, channels)``."""
        windows, tokens, _ = inputs.shape
        parts = self.qkv(self.norm(inputs)).view(windows, tokens, self.heads, -1).transpose(1, 2)
        query, key, value = parts.split([self.key_dim, self.key_dim, self.value_dim], dim=3)
        weights = query @ key.transpose(-2, -1) * self.scale + self.attention_biases[:, self.attention_bias_idxs]
        attended = weights.softmax(dim=-1) @ value
        result: torch.Tensor = self.proj(attended.transpose(1, 2).reshape(windows, tokens, -1))
        return result


def _replace(module: nn.Module, types: Mapping[type, type]) -> None:
    """Replace the package's modules of some types by ours, parameters and keys kept."""
    for name, child in module.named_children():
        ours = types.get(type(child))
        if ours is None:
            _replace(child, types)
        else:
            setattr(module, name, ours(child))


def _sam_parts(model_type: str, image_size: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Image encoder, prompt encoder and mask decoder of the package, with random weights."""
    ensure_torchvision()
    from segment_anything_hq.modeling import ImageEncoderViT, MaskDecoderHQ, PromptEncoder, TinyViT, TwoWayTransformer
    from segment_anything_hq.modeling.common import LayerNorm2d
    from segment_anything_hq.modeling.tiny_vit_sam import Attention
    from segment_anything_hq.modeling.tiny_vit_sam import LayerNorm2d as TinyLayerNorm2d

    if model_type == "vit_tiny":
        early_channels = 160
        encoder = TinyViT(
            img_size=image_size,
            num_classes=0,
            embed_dims=[64, 128, early_channels, 320],
            depths=[2, 2, 6, 2],
            num_heads=[2, 4, 5, 10],
            window_sizes=[7, 7, 14, 7],
            drop_path_rate=0.0,
            layer_lr_decay=0.8,
        )
        encoder.norm_head = nn.Identity()
    else:
        size = _VITS[model_type]
        early_channels = size.width
        encoder = ImageEncoderViT(
            img_size=image_size,
            patch_size=PATCH,
            embed_dim=size.width,
            depth=size.depth,
            num_heads=size.heads,
            norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            global_attn_indexes=size.global_blocks,
            window_size=14,
            out_chans=_DIM,
        )
    grid = (image_size // PATCH,) * 2
    prompt_encoder = PromptEncoder(_DIM, grid, (image_size, image_size), mask_in_chans=16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=_DIM, num_heads=8, mlp_dim=2048)
    decoder = MaskDecoderHQ(
        transformer_dim=_DIM, transformer=transformer, num_multimask_outputs=_MASK_TOKENS - 1, vit_dim=early_channels
    )
    for part in (encoder, decoder):
        _replace(part, {LayerNorm2d: _ChannelNorm, TinyLayerNorm2d: _ChannelNorm, Attention: _WindowAttention})
    return encoder, prompt_encoder, decoder


class HQSAM(nn.Module):
    """HQ-SAM for several structures.

    Each structure has its own mask tokens and its own high-quality token, and a learned prompt, so that no prompt of a
    user is needed. The structures are separate prompts of the decoder, as several objects on one image are in SAM.
    The logits of a structure are the sum of those of its mask token and of its high-quality token, as in the package.

    Args:
        model_type: ``vit_tiny``, ``vit_b``, ``vit_l`` or ``vit_h``.
        image_size: side of the square images, in pixels, a multiple of 16. 1024 is that of the official checkpoints; of
            another size, their position embeddings are interpolated.
        structures: number of structures (channels of the output).
        checkpoint: path or URL of a checkpoint with the keys of the official ones (``sam_hq_vit_tiny.pth``), or None to
            start from random weights. Every structure starts from its tokens.
        checkpoint_sha256: SHA-256 that the checkpoint has to have, as 64 hexadecimal digits; None does not check.
        freeze_encoder: train only what HQ-SAM adds to SAM (its tokens, its MLP, the fusion of features), and the
            learned prompt. The encoder then stays in evaluation mode.
        learned_prompts: number of learned prompt tokens of each structure. With 0 the network is SAM-HQ itself, and a
            structure needs a prompt.

    Raises:
        SettingError: a setting is not usable, or the checkpoint cannot be read or does not fit.
    """

    def __init__(
        self,
        model_type: str = "vit_tiny",
        image_size: int = 1024,
        structures: int = 2,
        checkpoint: str | Path | None = None,
        checkpoint_sha256: str | None = None,
        freeze_encoder: bool = False,
        learned_prompts: int = 1,
    ) -> None:
        super().__init__()
        if model_type not in MODEL_TYPES:
            raise SettingError(f"model_type is {model_type!r}; give one of {', '.join(MODEL_TYPES)}.")
        if not (isinstance(image_size, int) and image_size >= PATCH and image_size % PATCH == 0):
            raise SettingError(f"image_size is {image_size!r}; give a multiple of {PATCH} pixels.")
        self.model_type = model_type
        self.image_size = image_size
        self.structures = structures
        self.freeze_encoder = freeze_encoder
        self.image_encoder, self.prompt_encoder, self.mask_decoder = _sam_parts(model_type, image_size)
        decoder: Any = self.mask_decoder
        # One of each kind for every structure takes the place of the package's single ones.
        self.mask_tokens = nn.Parameter(decoder.mask_tokens.weight.detach().repeat(structures, 1, 1))
        self.hf_tokens = nn.Parameter(torch.randn(structures, 1, _DIM))
        self.learned_prompt = nn.Parameter(torch.randn(structures, learned_prompts, _DIM))
        if checkpoint is None:
            nn.init.normal_(self.mask_tokens)
        else:
            self._load_official(checkpoint, checkpoint_sha256)
        del decoder.mask_tokens, decoder.hf_token
        # SAM's other outputs are not used: quality scores, the masks of ambiguous prompts, masks as prompts.
        del decoder.iou_prediction_head, decoder.output_hypernetworks_mlps[1:]
        del self.prompt_encoder.mask_downscaling
        for name, parameter in self.named_parameters():
            parameter.requires_grad = not freeze_encoder or name.removeprefix("mask_decoder.").startswith(_HQ_PARTS)

    def _load_official(self, source: str | Path, sha256: str | None) -> None:
        """Load a checkpoint of the package into its modules, before any of them is given up."""
        state = {key: value for key, value in read_checkpoint(source, sha256).items() if not key.startswith(_UNUSED)}
        own = self.state_dict()
        for name in ("mask_tokens", "hf_tokens", "learned_prompt"):
            del own[name]
        for key, value in own.items():
            if key in state and state[key].ndim == value.ndim:
                state[key] = _interpolated(key, state[key], value.shape)
        parts = nn.ModuleDict(
            {name: getattr(self, name) for name in ("image_encoder", "prompt_encoder", "mask_decoder")}
        )
        load_state(parts, state, source)
        decoder: Any = self.mask_decoder
        with torch.no_grad():
            self.mask_tokens.copy_(decoder.mask_tokens.weight.expand_as(self.mask_tokens))
            self.hf_tokens.copy_(decoder.hf_token.weight.expand_as(self.hf_tokens))

    def train(self, mode: bool = True) -> HQSAM:
        """Set the mode; a frozen encoder stays in evaluation mode, with the statistics of its normalisation."""
        super().train(mode)
        if self.freeze_encoder:
            self.image_encoder.eval()
        return self

    def forward(self, image: torch.Tensor, prompts: torch.Tensor | None = None) -> torch.Tensor:
        """Give the logits of every structure.

        Args:
            image: ``(B, 3, W, H)`` with W = H = image_size, from -1 to 1.
            prompts: ``(B, S, N, 3)``, or None.

        Returns:
            ``(B, S, W, H)``.
        """
        return self.decode(self.encode(image), prompts)

    def encode(self, image: torch.Tensor) -> Features:
        """Compute the features of images, without a gradient where the encoder is frozen.

        Args:
            image: ``(B, 3, W, H)`` with W = H = image_size, from -1 to 1.

        Returns:
            The features.

        Raises:
            ValueError: the image has another shape.
        """
        if tuple(image.shape[1:]) != (3, self.image_size, self.image_size):
            raise ValueError(
                f"The network takes images (B, 3, {self.image_size}, {self.image_size}), not {tuple(image.shape)}."
            )
        mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (_PIXEL_MEAN, _PIXEL_STD))
        upright = ((image.transpose(2, 3) + 1) * 127.5 - mean) / std
        upright = upright.contiguous(memory_format=torch.channels_last)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            encode = self._encode_tiny if self.model_type == "vit_tiny" else self._encode_vit
            return encode(upright)

    def _encode_tiny(self, upright: torch.Tensor) -> Features:
        """The package's ``TinyViT.forward``, which is for 1024 x 1024 pixels only."""
        encoder: Any = self.image_encoder
        grid = self.image_size // PATCH
        tokens = encoder.layers[0](encoder.patch_embed(upright))
        maps = []
        for layer in encoder.layers[1:]:
            tokens = layer(tokens)
            maps.append(tokens.transpose(1, 2).unflatten(2, (grid, grid)))
        return Features(encoder.neck(maps[-1]), maps[0])

    def _encode_vit(self, upright: torch.Tensor) -> Features:
        """The package's ``ImageEncoderViT.forward``, which keeps more early features than the decoder uses."""
        encoder: Any = self.image_encoder
        tokens = encoder.patch_embed(upright) + encoder.pos_embed
        early = None
        for block in encoder.blocks:
            tokens = block(tokens)
            if early is None and block.window_size == 0:
                early = tokens.permute(0, 3, 1, 2)
        assert early is not None
        return Features(encoder.neck(tokens.permute(0, 3, 1, 2)), early)

    def decode(
        self, features: Features | tuple[torch.Tensor, torch.Tensor], prompts: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute the masks from features, for these prompts.

        Args:
            features: what `encode` gave.
            prompts: ``(B, S, N, 3)``, or None.

        Returns:
            Logits ``(B, S, W, H)`` with W = H = image_size.
        """
        logits = self.decode_coarse(features, prompts)
        return functional.interpolate(logits, (self.image_size,) * 2, mode="bilinear", align_corners=False)

    def decode_coarse(
        self,
        features: Features | tuple[torch.Tensor, torch.Tensor],
        prompts: torch.Tensor | None = None,
        window: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Compute the masks at the decoder's own resolution, a quarter of the image's.

        Args:
            features: what `encode` gave; with ``window``, the early ones are of the window alone.
            prompts: ``(B, S, N, 3)``, or None.
            window: ``(B, 2)``, first column and first row, in steps of the encoder's grid, of the part of each image
                whose masks are drawn; None draws all. Its side is that of the early features.

        Returns:
            Logits ``(B, S, W / 4, H / 4)``, of the window alone where there is one.
        """
        final, early = features
        queries, image = self._attend(final, prompts)
        if window is not None:
            side = early.shape[-1]
            final = _cut(final, window, side)
            image = _cut(image, window.repeat_interleave(self.structures, dim=0), side)
        return self._draw(queries, image, final.float(), early.float()).transpose(2, 3)

    def _attend(self, final: torch.Tensor, prompts: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Let the tokens of every structure and the image attend to each other.

        Returns:
            The tokens of the coarse and of the fine mask ``(B * S, 2, 256)``, and image ``(B * S, 256, G, G)``.
        """
        decoder: Any = self.mask_decoder
        encoder: Any = self.prompt_encoder
        batch, _, *grid = final.shape
        iou = decoder.iou_token.weight.expand(self.structures, -1, -1)
        coarse, others = self.mask_tokens.split([1, _MASK_TOKENS - 1], dim=1)
        tokens = torch.cat([coarse, self.hf_tokens, iou, others, self.learned_prompt], dim=1)
        tokens = tokens.expand(batch, -1, -1, -1)
        mask = None
        if prompts is not None:
            embedded, present = self._embed(prompts)
            present = torch.cat([present.new_ones(tokens.shape[:3]), present], dim=2)
            mask = present.flatten(0, 1)[:, None, :, None]
            tokens = torch.cat([tokens, embedded], dim=2)
        tokens = tokens.flatten(0, 1)
        # Contiguous once: what follows adds and multiplies by places, again and again.
        keys = final.flatten(2).transpose(1, 2).contiguous() + encoder.no_mask_embed.weight
        position = self._grid_position()
        if self.freeze_encoder and torch.is_autocast_enabled(final.device.type):
            # No gradient goes through the image here, and half the memory is half the time.
            dtype = torch.get_autocast_dtype(final.device.type)
            keys, position = keys.to(dtype), position.to(dtype)
        queries, keys = _two_way(decoder.transformer, keys, position, tokens, mask, 2, not self.freeze_encoder)
        return queries, keys.transpose(1, 2).unflatten(2, grid)

    def _draw(
        self, queries: torch.Tensor, image: torch.Tensor, final: torch.Tensor, early: torch.Tensor
    ) -> torch.Tensor:
        """Turn attended tokens and image into masks ``(B, S, H, W)``, upright, at four times the grid.

        All but ``queries`` may be cut to one and the same window of the grid.
        """
        decoder: Any = self.mask_decoder
        drawn = decoder.output_upscaling(image)
        fused = decoder.embedding_encoder(final) + decoder.compress_vit_feat(early)
        fine = decoder.embedding_maskfeature(drawn) + fused.repeat_interleave(self.structures, dim=0)
        coarse_weights = decoder.output_hypernetworks_mlps[0](queries[:, 0])
        fine_weights = decoder.hf_mlp(queries[:, 1])
        masks = _weighted(coarse_weights, drawn) + _weighted(fine_weights, fine)
        return masks.unflatten(0, (-1, self.structures))

    def _embed(self, prompts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed prompts as SAM's prompt encoder does, for any number of rows that count.

        Returns:
            Tokens ``(B, S, N + 1, 256)``, and which of them count.
        """
        encoder: Any = self.prompt_encoder
        kinds = prompts[..., 2].round().long()
        table = torch.cat([embedding.weight for embedding in encoder.point_embeddings])
        tokens = self._position((prompts[..., :2] + 0.5) / self.image_size) + table[kinds.clamp(min=0)]
        # SAM adds one token that is no point where there are points and no box.
        has_points = ((kinds == NEGATIVE) | (kinds == POSITIVE)).any(dim=-1, keepdim=True)
        padded = has_points & (kinds < BOX_FIRST).all(dim=-1, keepdim=True)
        padding = encoder.not_a_point_embed.weight.expand(*tokens.shape[:2], 1, -1)
        return torch.cat([tokens, padding], dim=2), torch.cat([kinds > ABSENT, padded], dim=2)

    def _position(self, places: torch.Tensor) -> torch.Tensor:
        """Encode places (x, y) from 0 to 1 by random frequencies (Tancik et al., NeurIPS 2020), in full precision."""
        layer: Any = self.prompt_encoder.pe_layer
        with torch.autocast(places.device.type, enabled=False):
            angles = (2 * places.float() - 1) @ layer.positional_encoding_gaussian_matrix.float() * (2 * torch.pi)
            return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def _grid_position(self) -> torch.Tensor:
        """Encoded places of the encoder's grid, row by row: ``(1, G * G, 256)``."""
        grid = self.image_size // PATCH
        middle = (torch.arange(grid, device=self.hf_tokens.device) + 0.5) / grid
        y, x = torch.meshgrid(middle, middle, indexing="ij")
        return self._position(torch.stack([x, y], dim=-1).view(1, -1, 2))


class HQSAMEncoder(nn.Module):
    """The encoder of an `HQSAM` as a network, for export.

    Args:
        network: whose encoder it is; nothing is copied.
    """

    def __init__(self, network: HQSAM) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the final and the early features of images ``(B, 3, W, H)``."""
        features = self.network.encode(image)
        return features.final, features.early


class HQSAMDecoder(nn.Module):
    """The decoder of an `HQSAM` as a network, for export and for trainings on kept features.

    Args:
        network: whose decoder it is; nothing is copied.
    """

    def __init__(self, network: HQSAM) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        final: torch.Tensor,
        early: torch.Tensor,
        prompts: torch.Tensor | None = None,
        window: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Give the logits at the decoder's own resolution, as `HQSAM.decode_coarse` does."""
        return self.network.decode_coarse(Features(final, early), prompts, window)


def _cut(maps: torch.Tensor, window: torch.Tensor, side: int) -> torch.Tensor:
    """Cut a window of its own out of each map ``(C, H, W)``, in single precision."""
    return torch.stack(
        [part[:, y : y + side, x : x + side].float() for part, (x, y) in zip(maps, window.tolist(), strict=True)]
    )


def _weighted(weights: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Sum of maps ``(B, C, H, W)`` by weights ``(B, C)``."""
    return torch.einsum("bc,bchw->bhw", weights, maps)


def _interpolated(key: str, value: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Bring a position embedding to another size; everything else as it is."""
    if value.shape == shape:
        return value
    if key == "image_encoder.pos_embed":  # (1, H, W, C)
        sized = functional.interpolate(value.float().permute(0, 3, 1, 2), shape[1:3], mode="bicubic")
        return sized.permute(0, 2, 3, 1)
    if key.endswith((".rel_pos_h", ".rel_pos_w")):  # (2 * side - 1, C)
        return functional.interpolate(value.float().T[None], shape[0], mode="linear")[0].T
    return value


def _attention(attention: Any, query: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The package's ``Attention`` among the tokens ``(B * S, T, C)``; keys are the queries."""
    heads, keys, values = (
        _split(layer(part), attention.num_heads)
        for layer, part in ((attention.q_proj, query), (attention.k_proj, query), (attention.v_proj, value))
    )
    scores = (heads * heads.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask.transpose(-2, -1), -torch.inf)
    result: torch.Tensor = attention.out_proj((scores.softmax(dim=-1) @ values).transpose(1, 2).flatten(2))
    return result


def _split(tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """Divide ``(B * S, T, heads * D)`` among the heads: ``(B * S, heads, T, D)``."""
    return tokens.unflatten(2, (heads, -1)).transpose(1, 2)


# Between tokens and image: the tokens are a handful, the places of the image thousands. A product with a projected
# image, q (k W + b)', is (q W') k' + q b': so the tokens go through the image's projection, and the image is never
# projected, divided among heads or copied. All heads, and all structures that share an image, are one product.


def _scores(
    heads: torch.Tensor, projection: nn.Linear, image: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Scaled products of tokens and projected image.

    Args:
        heads: tokens ``(B * S, heads, T, D)``.
        projection: of the image, from C to heads * D.
        image: ``(B, G * G, C)``, or one for each structure, ``(B * S, G * G, C)``.
        mask: ``(B * S, 1, T, 1)``, which tokens count; None if all do.

    Returns:
        ``(B * S, heads, T, G * G)``.
    """
    count, width = heads.shape[1], heads.shape[3]
    heads = heads * width**-0.5
    rows = heads @ projection.weight.unflatten(0, (count, width))
    shift = heads @ projection.bias.view(count, width, 1)
    if mask is not None:
        shift = shift.masked_fill(~mask, -torch.inf)
    images, channels = image.shape[0], image.shape[2]
    products = torch.baddbmm(shift.reshape(images, -1, 1), rows.reshape(images, -1, channels), image.transpose(1, 2))
    return products.reshape(heads.shape[0], count, -1, image.shape[1])


def _tokens_to_image(attention: Any, tokens: torch.Tensor, placed: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """The package's ``Attention`` with tokens as queries and the image as keys (with its places) and values."""
    scores = _scores(_split(attention.q_proj(tokens), attention.num_heads), attention.k_proj, placed)
    images, places, channels = image.shape
    seen = scores.softmax(dim=-1).reshape(images, -1, places) @ image
    seen = seen.reshape(*scores.shape[:2], -1, channels)
    values = attention.v_proj
    heads = seen @ values.weight.unflatten(0, (attention.num_heads, -1)).transpose(1, 2)
    result: torch.Tensor = attention.out_proj(heads.transpose(1, 2).flatten(2) + values.bias)
    return result


def _image_to_tokens(
    attention: Any, placed: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """The package's ``Attention`` with the image's places as queries: ``(B * S, G * G, C)``."""
    count = attention.num_heads
    weights = _scores(_split(attention.k_proj(keys), count), attention.q_proj, placed, mask).softmax(dim=2)
    output = attention.out_proj
    # The weights of a head add up to 1, so each of its tokens can carry its part of the bias.
    rows = _split(attention.v_proj(values), count) @ output.weight.T.unflatten(0, (count, -1)) + output.bias / count
    return weights.flatten(1, 2).transpose(1, 2) @ rows.flatten(1, 2)


def _two_way(
    transformer: Any,
    keys: torch.Tensor,
    position: torch.Tensor,
    tokens: torch.Tensor,
    mask: torch.Tensor | None,
    used: int,
    image_gradient: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The package's ``TwoWayTransformer`` for a batch of images with several structures each.

    Args:
        transformer: the package's module.
        keys: image ``(B, G * G, C)``.
        position: encoded places ``(1, G * G, C)``.
        tokens: ``(B * S, T, C)``.
        mask: ``(B * S, 1, T, 1)``, which tokens count; None if all do.
        used: number of tokens, from the first on, that are wanted.
        image_gradient: whether gradients go through the image too, and not through the tokens alone.

    Returns:
        The wanted tokens ``(B * S, used, C)`` and image ``(B * S, G * G, C)``.
    """
    queries = tokens
    with_gradient = torch.is_grad_enabled()
    for layer in transformer.layers:
        if layer.skip_first_layer_pe:
            queries = _attention(layer.self_attn, queries, queries, mask)
        else:
            queries = queries + _attention(layer.self_attn, queries + tokens, queries, mask)
        queries = layer.norm1(queries)
        placed, asking, attention = keys + position, queries + tokens, layer.cross_attn_token_to_image
        # What the last layer adds to the other tokens goes to the image alone.
        split = used if layer is transformer.layers[-1] else asking.shape[1]
        parts = [_tokens_to_image(attention, asking[:, :split], placed, keys)]
        if split < asking.shape[1]:
            with torch.set_grad_enabled(with_gradient and image_gradient):
                parts.append(_tokens_to_image(attention, asking[:, split:], placed, keys))
        queries = layer.norm2(queries + torch.cat(parts, dim=1))
        queries = layer.norm3(queries + layer.mlp(queries))
        with torch.set_grad_enabled(with_gradient and image_gradient):
            seen = _image_to_tokens(layer.cross_attn_image_to_token, placed, queries + tokens, queries, mask)
            keys = layer.norm4((seen.unflatten(0, (keys.shape[0], -1)) + keys[:, None]).flatten(0, 1))
    queries, tokens = queries[:, :used], tokens[:, :used]
    attended = _tokens_to_image(transformer.final_attn_token_to_image, queries + tokens, keys + position, keys)
    return transformer.norm_final_attn(queries + attended), keys
