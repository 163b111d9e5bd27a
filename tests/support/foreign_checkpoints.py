"""Random checkpoints as fairseq, fairseq2 and torchaudio save them, with their names typed by hand, and what a model of
fairseq computes, written slowly and plainly from its names.

The same seed gives the same tensors to all three.
"""

import math
import sys
import types
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from small_models import small_config
from torch import Tensor

CTC, PRETRAINING, TRUNK = "Wav2Vec2ForCTC", "Wav2Vec2ForPreTraining", "Wav2Vec2Model"
TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "|", *"ETAON"]
LETTERS = "".join(f"{token} {10 - number}\n" for number, token in enumerate(TOKENS[4:]))
ORIGINS = ("fairseq", "fairseq2", "torchaudio")
ARCHITECTURES = ("base", "large_lv60k", "layer_norm_post_norm")


class One(NamedTuple):
    """A tensor of each origin."""

    fairseq: str
    fairseq2: str | None
    torchaudio: str | None
    shape: tuple[int, ...]


def trunk(config: Any) -> Iterator[One]:
    """The encoder: names and shapes."""
    width, inner, last = config.hidden_size, config.intermediate_size, config.conv_dim[-1]
    before = 1
    for i, (channels, kernel) in enumerate(zip(config.conv_dim, config.conv_kernel, strict=True)):
        a, b = f"feature_extractor.conv_layers.{i}", f"encoder_frontend.feature_extractor.layers.{i}"
        yield One(f"{a}.0.weight", f"{b}.conv.weight", f"{a}.conv.weight", (channels, before, kernel))
        if config.conv_bias:
            yield One(f"{a}.0.bias", f"{b}.conv.bias", f"{a}.conv.bias", (channels,))
        for one in ("weight", "bias"):
            if config.feat_extract_norm == "layer":
                yield One(f"{a}.2.1.{one}", f"{b}.layer_norm.{one}", f"{a}.layer_norm.{one}", (channels,))
            elif i == 0:
                yield One(f"{a}.2.{one}", f"{b}.group_norm.{one}", f"{a}.layer_norm.{one}", (channels,))
        before = channels
    front, end = "encoder_frontend", "encoder.transformer"
    yield One("mask_emb", "masker.temporal_mask_embed", None, (width,))
    projection = "encoder.feature_projection"
    for one in ("weight", "bias"):
        yield One(
            f"layer_norm.{one}", f"{front}.post_extract_layer_norm.{one}", f"{projection}.layer_norm.{one}", (last,)
        )
        shape = (width, last) if one == "weight" else (width,)
        yield One(f"post_extract_proj.{one}", f"{front}.model_dim_proj.{one}", f"{projection}.projection.{one}", shape)
        outer = "encoder" if config.do_stable_layer_norm else front
        yield One(f"encoder.layer_norm.{one}", f"{outer}.layer_norm.{one}", f"{end}.layer_norm.{one}", (width,))
    kernel, groups = config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
    of_positions: dict[str, tuple[int, ...]] = {"weight_g": (1, 1, kernel), "bias": (width,)}
    of_positions["weight_v"] = (width, width // groups, kernel)
    for one, size in of_positions.items():
        yield One(
            f"encoder.pos_conv.0.{one}", f"{front}.pos_encoder.conv.{one}", f"{end}.pos_conv_embed.conv.{one}", size
        )
    for i in range(config.num_hidden_layers):
        yield from layer(f"encoder.layers.{i}", f"{end}.layers.{i}", width, inner)
        if config.adapter_attn_dim is not None:
            yield from adapter(f"encoder.layers.{i}.adapter_layer", width, config.adapter_attn_dim)


def layer(a: str, b: str, width: int, inner: int) -> Iterator[One]:
    """One layer of the encoder."""
    for one in ("weight", "bias"):
        square = (width, width) if one == "weight" else (width,)
        for x in "qkv":
            yield One(f"{a}.self_attn.{x}_proj.{one}", f"{a}.self_attn.{x}_proj.{one}", f"{b}.attention.{x}_proj.{one}", square)  # fmt: skip  # noqa: E501
        yield One(f"{a}.self_attn.out_proj.{one}", f"{a}.self_attn.output_proj.{one}", f"{b}.attention.out_proj.{one}", square)  # fmt: skip  # noqa: E501
        yield One(f"{a}.self_attn_layer_norm.{one}", f"{a}.self_attn_layer_norm.{one}", f"{b}.layer_norm.{one}", (width,))  # fmt: skip  # noqa: E501
        wide = (inner, width) if one == "weight" else (inner,)
        yield One(f"{a}.fc1.{one}", f"{a}.ffn.inner_proj.{one}", f"{b}.feed_forward.intermediate_dense.{one}", wide)
        narrow = (width, inner) if one == "weight" else (width,)
        yield One(f"{a}.fc2.{one}", f"{a}.ffn.output_proj.{one}", f"{b}.feed_forward.output_dense.{one}", narrow)
        yield One(f"{a}.final_layer_norm.{one}", f"{a}.ffn_layer_norm.{one}", f"{b}.final_layer_norm.{one}", (width,))


def adapter(a: str, width: int, inner: int) -> Iterator[One]:
    """The language adapter of one layer."""
    yield One(f"{a}.W_a", None, None, (1, inner, width))
    yield One(f"{a}.b_a", None, None, (1, inner))
    yield One(f"{a}.W_b", None, None, (1, width, inner))
    yield One(f"{a}.b_b", None, None, (1, width))
    yield One(f"{a}.ln_W", None, None, (1, width))
    yield One(f"{a}.ln_b", None, None, (1, width))


def head(config: Any, kind: str) -> Iterator[One]:
    """What stands above the encoder."""
    width = config.hidden_size
    if kind == CTC:
        yield One("w2v_encoder.proj.weight", "final_proj.weight", "aux.weight", (config.vocab_size, width))
        yield One("w2v_encoder.proj.bias", "final_proj.bias", "aux.bias", (config.vocab_size,))
    if kind == PRETRAINING:
        codes = config.num_codevectors_per_group * config.num_codevector_groups
        code, final, last = config.codevector_dim, config.proj_codevector_dim, config.conv_dim[-1]
        yield One("quantizer.vars", "quantizer.entries", None, (1, codes, code // config.num_codevector_groups))
        yield One("quantizer.weight_proj.weight", "quantizer.entry_proj.weight", None, (codes, last))
        yield One("quantizer.weight_proj.bias", "quantizer.entry_proj.bias", None, (codes,))
        yield One("project_q.weight", "final_target_proj.weight", None, (final, code))
        yield One("project_q.bias", "final_target_proj.bias", None, (final,))
        yield One("final_proj.weight", "final_proj.weight", None, (final, width))
        yield One("final_proj.bias", "final_proj.bias", None, (final,))


def tensors(origin: str, config: Any, kind: str, seed: int = 0) -> dict[str, Tensor]:
    """All tensors of a model under an origin's names."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    rows = [(one, True) for one in trunk(config)] + [(one, False) for one in head(config, kind)]
    for one, inside in rows:
        values = torch.randn(one.shape, generator=generator) * 0.2
        if one.fairseq.endswith(("norm.weight", ".2.weight", ".2.1.weight", "weight_g", "ln_W")):
            values = 1 + values
        name = getattr(one, origin)
        if name is not None:
            prefix = "w2v_encoder.w2v_model." if origin == "fairseq" and kind == CTC and inside else ""
            found[prefix + name] = values
    if origin == "fairseq2" and kind == PRETRAINING:
        found["quantizer.num_updates"] = torch.tensor(1234)
    return found


def cfg(config: Any, kind: str) -> dict[str, Any]:
    """Settings of a run, as new releases of fairseq save them; only those that its model depends on."""
    layers = list(zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True))
    inner = {
        "_name": "wav2vec2",
        "encoder_attention_heads": config.num_attention_heads,
        "layer_norm_first": config.do_stable_layer_norm,
        "conv_feature_layers": f"{layers[:1]} + {layers[1:2]} * 4 + {layers[5:]}",
        "dropout": 0.05,
        "encoder_layerdrop": 0.2,
        "latent_temp": "(2.0, 0.25, 0.9999)",
    }
    task = {"_name": "audio_pretraining", "normalize": config.feat_extract_norm == "layer"}
    if kind != CTC:
        return {"task": task, "model": inner, "criterion": {"loss_weights": [0.3, 7]}}
    outer = {
        "_name": "wav2vec_ctc",
        "w2v_args": {"model": inner, "task": task},
        "layerdrop": 0.1,
        "final_dropout": 0.25,
    }
    return {"task": task | {"_name": "audio_finetuning"}, "model": outer, "criterion": {"_name": "ctc"}}


def save(origin: str, path: Path, architecture: str, kind: str, seed: int = 0, **overrides: Any) -> Any:
    """Write a checkpoint, and the file of its tokens beside it, as the origin does; returns the configuration."""
    config = small_config(architecture, vocab_size=len(TOKENS), **overrides)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = tensors(origin, config, kind, seed)
    if origin == "torchaudio":
        torch.save(state, path)
        (path.parent / "labels.txt").write_text("\n".join(["-", *TOKENS[1:]]))
    elif origin == "fairseq2":
        torch.save({"model": state}, path)
    else:
        torch.save({"args": None, "cfg": cfg(config, kind), "model": state, "last_optimizer_state": None}, path)
        (path.parent / "dict.ltr.txt").write_text(LETTERS)
    return config


def without_settings(config: Any) -> dict[str, Any]:
    """What must be said of a small model whose file has no settings."""
    return {
        "num_attention_heads": config.num_attention_heads,
        "conv_stride": list(config.conv_stride),
        "do_stable_layer_norm": config.do_stable_layer_norm,
    }


@contextmanager
def foreign_classes() -> Iterator[types.SimpleNamespace]:
    """Classes that can be pickled under the names of fairseq and omegaconf, while this is open."""
    made: dict[str, Any] = {}
    before = dict(sys.modules)
    for module, name in (
        ("fairseq.data.dictionary", "Dictionary"),
        ("omegaconf.dictconfig", "DictConfig"),
        ("omegaconf.nodes", "AnyNode"),
    ):
        for number in range(len(module.split("."))):
            part = ".".join(module.split(".")[: number + 1])
            sys.modules.setdefault(part, types.ModuleType(part))
        made[name] = type(name, (), {"__module__": module})
        setattr(sys.modules[module], name, made[name])
    try:
        yield types.SimpleNamespace(**made)
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]


def holding(cls: Any, **state: Any) -> Any:
    """An object of a class with these attributes."""
    one = cls()
    vars(one).update(state)
    return one


Weights = dict[str, Tensor]


def save_languages(path: Path, dictionaries: dict[str, list[str]]) -> tuple[Weights, dict[str, Weights]]:
    """Write a checkpoint of MMS, whose first language is in place; its tensors, and those of each language."""
    config = small_config("mms", vocab_size=len(TOKENS))
    languages = {
        language: {
            name: tensor[: len(tokens)] if name.startswith("w2v_encoder.proj.") else tensor
            for name, tensor in tensors("fairseq", config, CTC, seed).items()
            if ".adapter_layer." in name or name.startswith("w2v_encoder.proj.")
        }
        for seed, (language, tokens) in enumerate(dictionaries.items())
    }
    state = tensors("fairseq", config, CTC, 0)
    with foreign_classes() as classes:
        states = {
            language: {
                "model": one,
                "task_state": {"target_dictionary": holding(classes.Dictionary, symbols=dictionaries[language])},
            }
            for language, one in languages.items()
        }
        torch.save({"cfg": cfg(config, CTC), "model": state, "adapter": states}, path)
    return state, languages


def old_args(config: Any) -> Namespace:
    """Settings as releases before 0.10 saved them: all side by side, those of the pretrained model inside."""
    inner = Namespace(
        encoder_attention_heads=config.num_attention_heads,
        layer_norm_first=config.do_stable_layer_norm,
        conv_feature_layers="[(32, 10, 5)] + [(32, 3, 2)] * 4 + [(32,2,2)] + [(32,2,2)]",
        dropout=0.4,
        normalize=False,
    )
    return Namespace(arch="wav2vec_ctc", w2v_args=inner, dropout=0.05, apply_mask=True, mask_prob=0.6, normalize=False)


def slow_adapter(x: Tensor, w: dict[str, Tensor], a: str) -> Tensor:
    """What a language adapter adds to its input (T, W): nothing where there is none."""
    if f"{a}.W_a" not in w:
        return torch.zeros(())
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    inside = {name: w[f"{a}.{name}"][0] for name in ("W_a", "b_a", "W_b", "b_b", "ln_W", "ln_b")}
    y = (x - mean) / torch.sqrt(variance + 1e-5) * inside["ln_W"] + inside["ln_b"]
    return F.relu(y @ inside["W_a"].T + inside["b_a"]) @ inside["W_b"].T + inside["b_b"]


def slow_logits(state: dict[str, Tensor], config: Any, waveform: Tensor) -> Tensor:
    """What fairseq computes for one clip (S,) with the tensors of a model for CTC, by its names: logits (T, V)."""
    w = {name.removeprefix("w2v_encoder.").removeprefix("w2v_model."): one for name, one in state.items()}

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        scaled = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-5)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = waveform[None]  # (C, S)
    for i, stride in enumerate(config.conv_stride):
        a = f"feature_extractor.conv_layers.{i}"
        x = F.conv1d(x[None], w[f"{a}.0.weight"], w.get(f"{a}.0.bias"), stride)[0]
        if f"{a}.2.1.weight" in w:
            x = norm(x.T, f"{a}.2.1").T
        elif f"{a}.2.weight" in w:  # one group for each channel: over its samples
            scaled = (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, keepdim=True, unbiased=False) + 1e-5)
            x = scaled * w[f"{a}.2.weight"][:, None] + w[f"{a}.2.bias"][:, None]
        x = F.gelu(x)
    x = linear(norm(x.T, "layer_norm"), "post_extract_proj")  # (T, W)
    v, g = w["encoder.pos_conv.0.weight_v"], w["encoder.pos_conv.0.weight_g"]
    kernel = v.shape[2]
    weight = v * (g / v.pow(2).sum((0, 1), keepdim=True).sqrt())
    positions = F.conv1d(
        x.T[None], weight, w["encoder.pos_conv.0.bias"], padding=kernel // 2, groups=x.shape[1] // v.shape[1]
    )
    x = x + F.gelu(positions[0, :, : x.shape[0]].T)
    first = config.do_stable_layer_norm
    x = x if first else norm(x, "encoder.layer_norm")
    size = config.hidden_size // config.num_attention_heads
    for i in range(config.num_hidden_layers):
        a = f"encoder.layers.{i}"
        y = norm(x, f"{a}.self_attn_layer_norm") if first else x
        q, k, u = (linear(y, f"{a}.self_attn.{one}_proj") for one in "qkv")
        heads = []
        for h in range(config.num_attention_heads):
            part = slice(h * size, (h + 1) * size)
            heads.append(torch.softmax(q[:, part] @ k[:, part].T / math.sqrt(size), -1) @ u[:, part])
        x = x + linear(torch.cat(heads, -1), f"{a}.self_attn.out_proj")
        x = x if first else norm(x, f"{a}.self_attn_layer_norm")
        y = norm(x, f"{a}.final_layer_norm") if first else x
        x = x + linear(F.gelu(linear(y, f"{a}.fc1")), f"{a}.fc2")
        x = x if first else norm(x, f"{a}.final_layer_norm")
        x = x + slow_adapter(x, w, f"{a}.adapter_layer")
    x = norm(x, "encoder.layer_norm") if first else x
    return linear(x, "proj")
