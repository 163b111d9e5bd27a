"""wav2vec (2019) and vq-wav2vec once more, slow and plain: torch's own layers, under the names of fairseq's files.

Written from the papers' descriptions. It takes single clips without padding, and loops over frames, steps and
distractors one by one.
"""

import ast
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LARGE: dict[str, Any] = {
    "arch": "wav2vec",
    "conv_feature_layers": (
        "[(512, 10, 5), (512, 8, 4), (512, 4, 2), (512, 4, 2), (512, 4, 2), (512, 1, 1), (512, 1, 1)]"
    ),
    "conv_aggregator_layers": str([(512, kernel, 1) for kernel in range(2, 14)]),
    "skip_connections_agg": True,
    "residual_scale": 0.5,
    "log_compression": True,
    "num_negatives": 10,
}
GUMBEL = LARGE | {
    "conv_feature_layers": LARGE["conv_feature_layers"].replace("]", ", (512, 1, 1)]"),
    "activation": "gelu",
    "offset": "auto",
    "log_compression": False,
    "prediction_steps": 12,
    "vq_type": "gumbel",
    "vq_groups": 2,
    "vq_depth": 2,
    "combine_groups": True,
    "vq_vars": 320,
    "vq_temp": "(2,0.5,0.999995)",
    "vq_dim": 0,
    "vq_gamma": 0.25,
    "loss_weights": None,
}
KMEANS = GUMBEL | {"vq_type": "kmeans", "loss_weights": "[1]"}

#: The same three, of a few thousand parameters. Widths change, so that a projection carries the skip connection.
_SMALL = {
    "conv_feature_layers": "[(6, 10, 5), (8, 8, 4), (8, 4, 2), (8, 4, 2), (8, 4, 2), (8, 1, 1)]",
    "conv_aggregator_layers": "[(8, 2, 1), (12, 3, 1)] + [(12, 4, 1)]",
    "prediction_steps": 4,
    "num_negatives": 3,
}
SMALL_LARGE = LARGE | _SMALL
SMALL_GUMBEL = GUMBEL | _SMALL | {"vq_vars": 5}
SMALL_KMEANS = KMEANS | _SMALL | {"vq_vars": 5}
SMALL = {"wav2vec": SMALL_LARGE, "gumbel": SMALL_GUMBEL, "kmeans": SMALL_KMEANS}


def layers(text: str) -> list[tuple[int, int, int]]:
    """A list, or a sum of lists."""
    return [layer for part in text.split(" + ") for layer in ast.literal_eval(part)]


def activation(settings: dict[str, Any]) -> nn.Module:
    return nn.GELU() if settings.get("activation") == "gelu" else nn.ReLU()


class Encoder(nn.Module):
    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.settings, width = settings, 1
        blocks: list[nn.Module] = []
        for dim, kernel, stride in layers(settings["conv_feature_layers"]):
            convolution = nn.Conv1d(width, dim, kernel, stride, bias=False)
            blocks.append(nn.Sequential(convolution, nn.Dropout(0.0), nn.GroupNorm(1, dim), activation(settings)))
            width = dim
        self.conv_layers = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(S,) -> (C, T)"""
        x = x[None, None]
        for layer in self.conv_layers:
            before, x = x, layer(x)
            if self.settings.get("skip_connections_feat") and before.shape[1] == x.shape[1]:
                stride = layer[0].stride[0]  # type: ignore[index]
                x = (x + before[..., ::stride][..., : x.shape[2]]) * math.sqrt(self.settings["residual_scale"])
        return torch.log(x.abs() + 1)[0] if self.settings["log_compression"] else x[0]


class Aggregator(nn.Module):
    def __init__(self, settings: dict[str, Any], width: int) -> None:
        super().__init__()
        self.settings = settings
        blocks: list[nn.Module] = []
        self.residual_proj = nn.ModuleList()
        for dim, kernel, _ in layers(settings["conv_aggregator_layers"]):
            pad = nn.ConstantPad1d if settings.get("agg_zero_pad") else nn.ReplicationPad1d
            before: Any = pad((kernel - 1, 0), 0.0) if settings.get("agg_zero_pad") else pad((kernel - 1, 0))  # type: ignore[call-arg]
            convolution = nn.Conv1d(width, dim, kernel, bias=not settings.get("no_conv_bias"))
            norm = nn.GroupNorm(1, dim, affine=not settings.get("non_affine_group_norm"))
            blocks.append(nn.Sequential(before, convolution, nn.Dropout(0.0), norm, activation(settings)))
            projects = settings["skip_connections_agg"] and width != dim
            self.residual_proj.append(nn.Conv1d(width, dim, 1, bias=False) if projects else None)  # type: ignore[arg-type]
            width = dim
        self.conv_layers = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(C, T) -> (C, T)"""
        x = x[None]
        for layer, projection in zip(self.conv_layers, self.residual_proj, strict=True):
            before, x = x, layer(x)
            if self.settings["skip_connections_agg"]:
                before = before if projection is None else projection(before)
                x = (x + before) * math.sqrt(self.settings["residual_scale"])
        return x[0]


class Gumbel(nn.Module):
    """The likeliest entry, as when nothing is trained."""

    def __init__(self, settings: dict[str, Any], width: int) -> None:
        super().__init__()
        self.groups, self.entries = settings["vq_groups"], settings["vq_vars"]
        self.books = 1 if settings["combine_groups"] else self.groups
        self.vars = nn.Parameter(torch.rand(1, self.books * self.entries, width // self.groups))
        last: nn.Module = nn.Linear(width, self.groups * self.entries)
        if settings["vq_depth"] == 2:
            first = nn.Sequential(nn.Linear(width, 2 * width), activation(settings))
            last = nn.Sequential(first, nn.Linear(2 * width, self.groups * self.entries))
        self.weight_proj = last

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(C, T) -> entries (C, T), codes (T, G), a cost of nothing"""
        codes = [[int(group.argmax()) for group in frame.chunk(self.groups)] for frame in self.weight_proj(x.T)]
        book = self.vars[0].view(self.books, self.entries, -1)
        rows = [torch.cat([book[group % self.books, code] for group, code in enumerate(frame)]) for frame in codes]
        return torch.stack(rows, 1), torch.tensor(codes), torch.zeros(())


class Kmeans(nn.Module):
    """The nearest entry by brute force."""

    def __init__(self, settings: dict[str, Any], width: int) -> None:
        super().__init__()
        self.settings, self.groups = settings, settings["vq_groups"]
        books = 1 if settings["combine_groups"] else self.groups
        self.embedding = nn.Parameter(0.5 * torch.randn(settings["vq_vars"], books, width // self.groups))
        self.projection = nn.Sequential(
            nn.Conv1d(width, width, 1, groups=self.groups, bias=False), nn.GroupNorm(self.groups, width)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(C, T) -> entries (C, T), codes (T, G), the mean cost of a frame"""
        projected = self.projection(x[None])[0]
        codes, rows = [], []
        for frame in projected.T:
            nearest = []
            for group, piece in enumerate(frame.chunk(self.groups)):
                book = self.embedding[:, group % self.embedding.shape[1]]
                nearest.append(min(range(len(book)), key=lambda code: float((piece - book[code]).detach().norm())))  # noqa: B023
            codes.append(nearest)
            entries = [self.embedding[c, g % self.embedding.shape[1]] for g, c in enumerate(nearest)]
            rows.append(torch.cat(entries))
        chosen = torch.stack(rows, 1)
        cost = F.mse_loss(chosen, projected.detach())
        cost = cost + self.settings["vq_gamma"] * F.mse_loss(projected, chosen.detach())
        return chosen.detach() + (projected - projected.detach()), torch.tensor(codes), cost


class Predictions(nn.Module):
    def __init__(self, width: int, features: int, steps: int) -> None:
        super().__init__()
        self.project_to_steps = nn.ConvTranspose2d(width, features, (1, steps))

    def forward(self, context: Tensor) -> Tensor:
        """(C, T) -> (C, T, K)"""
        projected: Tensor = self.project_to_steps(context[None, :, :, None])
        return projected[0]


class Ancestor(nn.Module):
    """The whole model, of fairseq's settings."""

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__()
        self.settings = settings
        conv = layers(settings["conv_feature_layers"])
        width, context = conv[-1][0], layers(settings["conv_aggregator_layers"])[-1][0]
        self.feature_extractor = Encoder(settings)
        kinds: dict[str | None, Any] = {"gumbel": Gumbel, "kmeans": Kmeans}
        self.vector_quantizer = kinds[settings["vq_type"]](settings, width) if "vq_type" in settings else None
        self.feature_aggregator = Aggregator(settings, width)
        self.wav2vec_predictions = Predictions(context, width, settings.get("prediction_steps", 12))
        field, stride = 1, 1
        for _, kernel, step in conv:
            field, stride = field + (kernel - 1) * stride, stride * step
        offset = settings.get("offset", "auto")
        self.offset = math.ceil(field / stride) if offset == "auto" else int(offset)

    def hear(self, waveform: Tensor) -> dict[str, Tensor]:
        """One clip (S,): `z` and `c` (C, T), and with a quantizer entries `q` (C, T), `codes` (T, G) and its `cost`."""
        heard = {"z": self.feature_extractor(waveform)}
        if self.vector_quantizer is not None:
            heard["q"], heard["codes"], heard["cost"] = self.vector_quantizer(heard["z"])
        return heard | {"c": self.feature_aggregator(heard.get("q", heard["z"]))}

    def loss(self, waveform: Tensor, distractors: list[list[int]], balanced: bool = False) -> dict[str, Any]:
        """One clip (S,), with the distractors of each frame by their numbers: the sum over predictions, how many there
        are, and for how many the true frame beats every distractor."""
        heard = self.hear(waveform)
        target, predicted = heard.get("q", heard["z"]), self.wav2vec_predictions(heard["c"])
        _, frames, steps = predicted.shape
        weight = 1 / len(distractors[0]) if balanced else 1.0
        total, count, right = torch.zeros((), dtype=predicted.dtype), 0, 0
        for step in range(steps):
            for frame in range(frames - self.offset - step):
                aim = frame + self.offset + step
                true = predicted[:, frame, step] @ target[:, aim]
                others = [predicted[:, frame, step] @ target[:, other] for other in distractors[aim]]
                total = total - torch.log(torch.sigmoid(true))
                for other in others:
                    total = total - weight * torch.log(1 - torch.sigmoid(other))
                count, right = count + 1, right + int(all(true > other for other in others))
        return {"loss": total, "count": count, "right": right, "cost": heard.get("cost", torch.zeros(()))}


def randomised(settings: dict[str, Any], seed: int = 0) -> Ancestor:
    """The model in float64, with numbers of its own in every parameter: a norm that does nothing would show nothing."""
    torch.manual_seed(seed)
    model = Ancestor(settings).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:
                parameter.copy_(0.3 * torch.randn_like(parameter) + (1.0 if name.endswith("weight") else 0.0))
    return model
