"""How each framework calls the same tensor.

One table, with a column for each. `{}` stands for a number, and what follows a name that ends in a dot is the same
everywhere (`weight`, `bias`). None: there is no such tensor. Our names are stock Transformers', without the `wav2vec2.`
in front of them in models with a head.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from wav2vec2.configuration import Wav2Vec2Config


class Row(NamedTuple):
    """One tensor, or a module's weight and bias."""

    #: In Transformers and in this package.
    ours: str
    #: In fairseq.
    fairseq: str | None
    #: In fairseq2 and omnilingual-asr.
    fairseq2: str | None
    #: In torchaudio.
    torchaudio: str | None


_CONVOLUTIONS = "feature_extractor.conv_layers.{}."
_FRONT = "encoder_frontend."
_CONVOLUTIONS_2 = f"{_FRONT}feature_extractor.layers.{{}}."
_LAYERS = "encoder.layers.{}."
_LAYERS_TA = "encoder.transformer.layers.{}."
_POSITIONS = "encoder.pos_conv_embed.conv."
_POSITIONS_2 = f"{_FRONT}pos_encoder.conv."
_POSITIONS_TA = "encoder.transformer.pos_conv_embed.conv."

_TRUNK = (
    Row(f"{_CONVOLUTIONS}conv.", f"{_CONVOLUTIONS}0.", f"{_CONVOLUTIONS_2}conv.", f"{_CONVOLUTIONS}conv."),
    Row(
        "feature_projection.layer_norm.",
        "layer_norm.",
        f"{_FRONT}post_extract_layer_norm.",
        "encoder.feature_projection.layer_norm.",
    ),
    Row(
        "feature_projection.projection.",
        "post_extract_proj.",
        f"{_FRONT}model_dim_proj.",
        "encoder.feature_projection.projection.",
    ),
    Row("masked_spec_embed", "mask_emb", "masker.temporal_mask_embed", None),
    Row(
        f"{_POSITIONS}parametrizations.weight.original0",
        "encoder.pos_conv.0.weight_g",
        f"{_POSITIONS_2}weight_g",
        f"{_POSITIONS_TA}weight_g",
    ),
    Row(
        f"{_POSITIONS}parametrizations.weight.original1",
        "encoder.pos_conv.0.weight_v",
        f"{_POSITIONS_2}weight_v",
        f"{_POSITIONS_TA}weight_v",
    ),
    Row(f"{_POSITIONS}bias", "encoder.pos_conv.0.bias", f"{_POSITIONS_2}bias", f"{_POSITIONS_TA}bias"),
    *(
        Row(f"{_LAYERS}attention.{ours}.", f"{_LAYERS}self_attn.{ours}.", f"{_LAYERS}self_attn.{theirs}.", there)
        for ours, theirs, there in (
            ("q_proj", "q_proj", f"{_LAYERS_TA}attention.q_proj."),
            ("k_proj", "k_proj", f"{_LAYERS_TA}attention.k_proj."),
            ("v_proj", "v_proj", f"{_LAYERS_TA}attention.v_proj."),
            ("out_proj", "output_proj", f"{_LAYERS_TA}attention.out_proj."),
        )
    ),
    Row(
        f"{_LAYERS}layer_norm.",
        f"{_LAYERS}self_attn_layer_norm.",
        f"{_LAYERS}self_attn_layer_norm.",
        f"{_LAYERS_TA}layer_norm.",
    ),
    Row(
        f"{_LAYERS}feed_forward.intermediate_dense.",
        f"{_LAYERS}fc1.",
        f"{_LAYERS}ffn.inner_proj.",
        f"{_LAYERS_TA}feed_forward.intermediate_dense.",
    ),
    Row(
        f"{_LAYERS}feed_forward.output_dense.",
        f"{_LAYERS}fc2.",
        f"{_LAYERS}ffn.output_proj.",
        f"{_LAYERS_TA}feed_forward.output_dense.",
    ),
    Row(
        f"{_LAYERS}final_layer_norm.",
        f"{_LAYERS}final_layer_norm.",
        f"{_LAYERS}ffn_layer_norm.",
        f"{_LAYERS_TA}final_layer_norm.",
    ),
    *(
        Row(f"{_LAYERS}adapter_layer.{ours}", f"{_LAYERS}adapter_layer.{theirs}", None, None)
        for ours, theirs in (
            ("norm.weight", "ln_W"),
            ("norm.bias", "ln_b"),
            ("linear_1.weight", "W_a"),
            ("linear_1.bias", "b_a"),
            ("linear_2.weight", "W_b"),
            ("linear_2.bias", "b_b"),
        )
    ),
)

#: The same tensors have other names where the first convolution alone is followed by a norm, or each is.
_CONVOLUTION_NORM = {
    "group": Row(
        f"{_CONVOLUTIONS}layer_norm.",
        f"{_CONVOLUTIONS}2.",
        f"{_CONVOLUTIONS_2}group_norm.",
        f"{_CONVOLUTIONS}layer_norm.",
    ),
    "layer": Row(
        f"{_CONVOLUTIONS}layer_norm.",
        f"{_CONVOLUTIONS}2.1.",
        f"{_CONVOLUTIONS_2}layer_norm.",
        f"{_CONVOLUTIONS}layer_norm.",
    ),
}
#: And where the one norm outside of the layers stands before the first of them, or behind the last.
_OUTER_NORM = {
    False: Row("encoder.layer_norm.", "encoder.layer_norm.", f"{_FRONT}layer_norm.", "encoder.transformer.layer_norm."),
    True: Row("encoder.layer_norm.", "encoder.layer_norm.", "encoder.layer_norm.", "encoder.transformer.layer_norm."),
}

_HEADS = (
    Row("quantizer.codevectors", "quantizer.vars", "quantizer.entries", None),
    Row("quantizer.weight_proj.", "quantizer.weight_proj.", "quantizer.entry_proj.", None),
    Row("project_hid.", "final_proj.", "final_proj.", None),
    Row("project_q.", "project_q.", "final_target_proj.", None),
    Row("lm_head.", "w2v_encoder.proj.", "final_proj.", "aux."),
)

#: What our names of the trunk begin with in a model with a head, and what fairseq's do in a model for CTC.
OUR_TRUNK, FAIRSEQ_TRUNK = "wav2vec2.", "w2v_encoder.w2v_model."


class Naming:
    """How one origin calls the tensors of one architecture.

    >>> naming = Naming("fairseq2", feat_extract_norm="layer", pre_norm=True)
    >>> naming.foreign("wav2vec2.encoder.layers.3.layer_norm.bias"), naming.foreign("lm_head.weight")
    ('encoder.layers.3.self_attn_layer_norm.bias', 'final_proj.weight')
    """

    def __init__(self, origin: str, feat_extract_norm: str, pre_norm: bool, trunk: str = "") -> None:
        """`trunk` is what the names of the origin's trunk begin with."""
        self.feat_extract_norm, self.pre_norm = feat_extract_norm, pre_norm
        rows = (*_TRUNK, _CONVOLUTION_NORM[feat_extract_norm], _OUTER_NORM[pre_norm])
        self._trunk = [(_pattern(row.ours), getattr(row, origin)) for row in rows]
        self._heads = [(_pattern(row.ours), getattr(row, origin)) for row in _HEADS]
        self._prefix = trunk

    @classmethod
    def of(cls, config: Wav2Vec2Config, origin: str, trunk: str = "") -> "Naming":
        """The names for a configuration."""
        return cls(origin, config.feat_extract_norm, config.do_stable_layer_norm, trunk)

    def foreign(self, ours: str) -> str | None:
        """Their name for a tensor of ours; None if they have no such tensor."""
        for pattern, template in self._heads:
            if found := pattern.match(ours):
                return None if template is None else template + ours[found.end() :]
        name = ours.removeprefix(OUR_TRUNK)
        for pattern, template in self._trunk:
            if found := pattern.match(name):
                number = found.group(1) if found.groups() else ""
                return None if template is None else self._prefix + template.format(number) + name[found.end() :]
        return None

    def of_all(self, ours: Iterable[str]) -> dict[str, str]:
        """Their names, each with ours, for those of our tensors that they have."""
        return {name: one for one in ours if (name := self.foreign(one)) is not None}


def _pattern(name: str) -> re.Pattern[str]:
    """A name of the table, to be found at the beginning of a tensor's."""
    written = re.escape(name).replace(r"\{\}", r"(\d+)")
    return re.compile(written if name.endswith(".") else written + "$")
