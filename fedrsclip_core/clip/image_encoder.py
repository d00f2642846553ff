"""The frozen image tower, loaded through transformers only when an image has no feature yet."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedrsclip_core.clip.files import ClipFiles
from fedrsclip_core.clip.image_preparation import ImagePreparation
from fedrsclip_core.clip.preprocessing import read_preprocessing
from fedrsclip_core.clip.weights import read_tensors, unreadable, vision_tensor_names
from fedrsclip_core.errors import ModelError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from fedrsclip_core.clip.recorded import Recorded

_ODD_FILES = (
    *(OSError, RuntimeError, ValueError, TypeError),
    *(LookupError, ArithmeticError, AttributeError),
)
"""What transformers raises where a file holds something else than it expects."""


_LONGEST = 32
"""How many times as long as wide an image is prepared as a whole."""


class ImageEncoder:
    """The frozen image tower with its own preprocessing.

    Parameters
    ----------
    files : ClipFiles
        Which CLIP.
    device : str
        Where it runs.

    Raises
    ------
    ModelError
        If the weights cannot be read.
    """

    def __init__(self, files: ClipFiles, device: str) -> None:
        import torch
        from transformers.activations import QuickGELUActivation

        from fedrsclip_core.clip.quick_gelu import QuickGelu

        self.files, self.device = files, device
        self._dtype = getattr(torch, files.dtype)
        self._side = int(files.vision_config["image_size"])
        self._preparation = ImagePreparation(read_preprocessing(files.folder))
        model = _load(files, self._dtype)
        for layer in model.vision_model.encoder.layers:
            if isinstance(layer.mlp.activation_fn, QuickGELUActivation):
                layer.mlp.activation_fn = QuickGelu()
        self._model = model.requires_grad_(False).to(device).eval()

    @property
    def side(self) -> int:
        """Pixels of a side of what the tower takes."""
        return self._side

    def prepare(self, image: "Image") -> "torch.Tensor":
        """Return the pixels ``(3, size, size)`` that the tower takes; may be called in threads.

        Raises
        ------
        ModelError
            If the preprocessing makes something else of this image.
        """
        import torch

        pixels = torch.from_numpy(self._preparation(_middle(image)))
        if pixels.shape != (3, self._side, self._side):
            raise ModelError(
                f"the image preprocessing in {self.files.folder} makes {pixels.shape[2]} x "
                f"{pixels.shape[1]} pixels of an image of {image.width} x {image.height}, but the "
                f"image tower takes {self._side} x {self._side}: switch do_center_crop on there"
            )
        return pixels

    def encode(self, prepared: "Sequence[torch.Tensor]") -> NDArray[np.float32]:
        """Return unit image features ``(len(prepared), dim)``; may be called in threads."""
        return _unit(self.embeds(prepared))

    def embeds(self, prepared: "Sequence[torch.Tensor]") -> NDArray[np.float32]:
        """Return the same as they are computed, not at length one: numbers of the tower's dtype."""
        import torch

        with torch.inference_mode():
            pixels = self._batch(prepared)
            cuda = pixels.device.type == "cuda"
            embeds = self._recorded(pixels) if cuda else self._class_embeds(pixels)
            return _on_the_cpu(embeds)

    def encode_patches(self, prepared: "Sequence[torch.Tensor]") -> NDArray[np.float32]:
        """Return unit features of the patches ``(len(prepared), V, dim)``, row by row of the image.

        CLIP projects only the class token. As in FedOTP, the patch tokens of the last layer go
        the class token's way: last LayerNorm, then the projection into the space of the texts.
        """
        import torch

        with torch.inference_mode():
            last = self._model.vision_model.encoder.layers[-1]
            tokens = last(self._before_last(self._batch(prepared)), None)
            return _unit(_on_the_cpu(self._projected(tokens[:, 1:])))  # (N, V, dim)

    @cached_property
    def _recorded(self) -> "Recorded":
        from fedrsclip_core.clip.recorded import Recorded

        return Recorded(self._class_embeds)

    def _class_embeds(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Return the projected class tokens ``(N, dim)``."""
        last = self._model.vision_model.encoder.layers[-1]
        return self._projected(_class_token(last, self._before_last(pixels)))[:, 0]

    def _before_last(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """Return all tokens ``(N, 1 + V, vision width)`` as the last layer takes them."""
        vision = self._model.vision_model
        hidden: torch.Tensor = vision.pre_layrnorm(vision.embeddings(pixels))
        for layer in vision.encoder.layers[:-1]:
            hidden = layer(hidden, None)
        return hidden

    def _projected(self, tokens: "torch.Tensor") -> "torch.Tensor":
        normed = self._model.vision_model.post_layernorm(tokens)
        projected: torch.Tensor = self._model.visual_projection(normed)
        return projected

    def _batch(self, prepared: "Sequence[torch.Tensor]") -> "torch.Tensor":
        import torch

        pixels = torch.stack(list(prepared))  # (N, 3, size, size)
        if self.device.startswith("cuda"):
            # From pinned memory the copy runs beside what the GPU computes.
            return pixels.pin_memory().to(self.device, self._dtype, non_blocking=True)
        return pixels.to(self.device, self._dtype)


def _class_token(layer: Any, hidden: "torch.Tensor") -> "torch.Tensor":
    """Return what a layer makes of the class token ``(N, 1, width)``.

    It asks all tokens ``hidden``, ``(N, T, width)``. After the last layer nobody asks the others.
    """
    from torch.nn.functional import scaled_dot_product_attention

    attention, normed = layer.self_attn, layer.layer_norm1(hidden)

    def by_head(tokens: "torch.Tensor") -> "torch.Tensor":
        return tokens.view(*tokens.shape[:2], -1, attention.head_dim).transpose(1, 2)

    attended = scaled_dot_product_attention(
        by_head(attention.q_proj(normed[:, :1])),
        by_head(attention.k_proj(normed)),
        by_head(attention.v_proj(normed)),
        scale=attention.scale,
    )  # (N, heads, 1, width / heads)
    token = hidden[:, :1] + attention.out_proj(attended.transpose(1, 2).flatten(2))
    result: torch.Tensor = token + layer.mlp(layer.layer_norm2(token))
    return result


def _on_the_cpu(embeds: "torch.Tensor") -> NDArray[np.float32]:
    return np.asarray(embeds.float().cpu().numpy(), dtype=np.float32)


def _unit(embeds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the last dimension at length one."""
    return np.asarray(embeds / np.linalg.norm(embeds, axis=-1, keepdims=True), dtype=np.float32)


def _middle(image: "Image") -> "Image":
    """Return the middle of an image that is absurdly long, of which CLIP sees a square anyway.

    The shorter side becomes that of the tower before the square is cut: as a whole, 1 x 100000
    pixels would become 224 x 22400000, which take gigabytes.
    """
    width, height = image.size
    longest = _LONGEST * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = max(0, (width - longest) // 2), max(0, (height - longest) // 2)
    return image.crop((left, top, left + min(width, longest), top + min(height, longest)))


def _load(files: ClipFiles, dtype: "torch.dtype") -> Any:
    """Load transformers' image tower and nothing of the text tower.

    Its own loader fills what a file lacks with random numbers and goes on; here the tensors are
    read by name, and a missing one is an error.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    names = vision_tensor_names(int(files.vision_config["num_hidden_layers"]))
    tensors = read_tensors(files.folder, names)
    try:
        config = CLIPVisionConfig(**files.vision_config, projection_dim=files.dim)
        return CLIPVisionModelWithProjection.from_pretrained(
            None, config=config, state_dict=tensors, dtype=dtype
        )
    except _ODD_FILES as error:
        raise unreadable(files.folder, error) from error
