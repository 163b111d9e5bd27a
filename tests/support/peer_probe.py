"""Run another framework's own model on a checkpoint that was written for it; in a process of its own.

`python peer_probe.py PEER PACKAGES FOLDER`: PACKAGES is where `pip install --no-deps --target` put the framework.
FOLDER has `checkpoint.pt`, `sizes.json` and `waveforms.pt`; what comes out is written there as `outputs.pt`. Only the
Python files of the framework are used: its compiled extensions want another torch, and neither model needs them.
"""

import dataclasses
import importlib
import importlib.machinery
import json
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


class _Absent:
    """Finds modules that are not installed, or must not be loaded: they are empty, and any name in them is a class."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        if name.split(".")[0] in self.names:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        module = types.ModuleType(spec.name)
        module.__path__ = []

        def anything(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

        module.__getattr__ = anything  # type: ignore[method-assign]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def without_its_init(name: str, packages: Path) -> None:
    """A package whose modules can be imported, though its own `__init__`, which loads extensions, is not run."""
    package = types.ModuleType(name)
    package.__path__ = [str(packages.joinpath(*name.split(".")))]
    sys.modules[name] = package


def torchaudio_model(packages: Path, sizes: dict[str, Any]) -> Tensor:
    """Logits, or features where there is no head, of torchaudio's class."""
    without_its_init("torchaudio", packages)
    from torchaudio.models.wav2vec2.model import wav2vec2_model  # type: ignore[import-not-found, unused-ignore]

    model = wav2vec2_model(
        extractor_mode="layer_norm" if sizes["feat_extract_norm"] == "layer" else "group_norm",
        extractor_conv_layer_config=list(
            zip(sizes["conv_dim"], sizes["conv_kernel"], sizes["conv_stride"], strict=True)
        ),
        extractor_conv_bias=sizes["conv_bias"],
        encoder_embed_dim=sizes["hidden_size"],
        encoder_projection_dropout=0.0,
        encoder_pos_conv_kernel=sizes["num_conv_pos_embeddings"],
        encoder_pos_conv_groups=sizes["num_conv_pos_embedding_groups"],
        encoder_num_layers=sizes["num_hidden_layers"],
        encoder_num_heads=sizes["num_attention_heads"],
        encoder_attention_dropout=0.0,
        encoder_ff_interm_features=sizes["intermediate_size"],
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=0.0,
        encoder_layer_norm_first=sizes["do_stable_layer_norm"],
        encoder_layer_drop=0.0,
        aux_num_out=sizes["tokens"],
    ).eval()
    model.load_state_dict(torch.load(sizes["folder"] + "/checkpoint.pt", weights_only=True))
    inputs = torch.load(sizes["folder"] + "/waveforms.pt")
    return model(inputs["values"], inputs["lengths"])[0]  # type: ignore[no-any-return]


def import_fairseq2(packages: Path) -> None:
    """Its models, on one device in one process, without the packages that its other parts want."""
    absent = {"fairseq2n", "importlib_resources", "importlib_metadata", "ruamel", "torcheval", "wandb", "sacrebleu"}
    absent |= {"editdistance", "clusterscope", "tiktoken", "s3fs", "blobfile", "tensorboard"}
    sys.meta_path.insert(0, _Absent(absent))
    without_its_init("fairseq2", packages)
    importlib.import_module("fairseq2.models.wav2vec2.asr.factory")
    gangs = importlib.import_module("fairseq2.gang").create_fake_gangs(torch.device("cpu"))
    for module in [one for name, one in sys.modules.items() if name.startswith("fairseq2")]:
        if "get_current_gangs" in vars(module):
            vars(module)["get_current_gangs"] = lambda device=None: gangs
        if "get_current_device" in vars(module):
            vars(module)["get_current_device"] = lambda: torch.device("cpu")


def fairseq2_encoder(sizes: dict[str, Any]) -> Any:
    """The configuration of its encoder."""
    order = importlib.import_module("fairseq2.models.transformer").TransformerNormOrder
    convolutions = zip(sizes["conv_dim"], sizes["conv_kernel"], sizes["conv_stride"], strict=True)
    return importlib.import_module("fairseq2.models.wav2vec2.config").Wav2Vec2EncoderConfig(
        model_dim=sizes["hidden_size"],
        feature_dim=sizes["conv_dim"][-1],
        feature_extractor_layer_descs=list(convolutions),
        feature_extractor_bias=sizes["conv_bias"],
        feature_extractor_layer_norm_convs=sizes["feat_extract_norm"] == "layer",
        pos_conv_kernel_size=sizes["num_conv_pos_embeddings"],
        num_pos_conv_groups=sizes["num_conv_pos_embedding_groups"],
        num_encoder_layers=sizes["num_hidden_layers"],
        num_encoder_attn_heads=sizes["num_attention_heads"],
        ffn_inner_dim=sizes["intermediate_size"],
        layer_norm_features=not sizes["do_stable_layer_norm"],
        norm_order=order.PRE if sizes["do_stable_layer_norm"] else order.POST,
    )


def fairseq2_model(packages: Path, sizes: dict[str, Any]) -> Tensor:
    """Logits of fairseq2's class for CTC, or what its encoder gives inside of the one for pretraining."""
    import_fairseq2(packages)
    models = importlib.import_module("fairseq2.models.wav2vec2.factory")
    recognisers = importlib.import_module("fairseq2.models.wav2vec2.asr.factory")
    inputs = torch.load(sizes["folder"] + "/waveforms.pt")
    state = torch.load(sizes["folder"] + "/checkpoint.pt", weights_only=True)["model"]
    layout = importlib.import_module("fairseq2.nn").BatchLayout.of(inputs["values"], inputs["lengths"].tolist())
    encoder = fairseq2_encoder(sizes)
    if sizes["tokens"] is not None:
        config = importlib.import_module("fairseq2.models.wav2vec2.asr.config").Wav2Vec2AsrConfig(
            encoder_config=encoder, target_vocab_size=sizes["tokens"], use_masking=sizes["masking"]
        )
        model = recognisers.create_wav2vec2_asr_model(config).eval()
        model.load_state_dict(state)
        return model(inputs["values"], layout)[0]  # type: ignore[no-any-return]
    pretraining = importlib.import_module("fairseq2.models.wav2vec2.config").Wav2Vec2Config(
        encoder_config=encoder,
        final_dim=sizes["proj_codevector_dim"],
        quantized_dim=sizes["codevector_dim"],
        num_codebooks=sizes["num_codevector_groups"],
        num_codebook_entries=sizes["num_codevectors_per_group"],
    )
    model = models.create_wav2vec2_model(pretraining).eval()
    model.load_state_dict(state)
    features, layout, _ = model.encoder_frontend.extract_features(inputs["values"], layout)
    frames, _ = model.encoder_frontend.process_features(features, layout)
    return model.final_proj(model.encoder(frames, layout))  # type: ignore[no-any-return]


def fairseq_model(packages: Path, sizes: dict[str, Any]) -> Tensor:
    """What fairseq's encoder gives: logits where there is a head for CTC, else the projected frames of pretraining.

    Its settings are those in the checkpoint, its dictionary is one of its own class."""
    import_fairseq(packages)
    from fairseq.data.dictionary import Dictionary  # type: ignore[import-not-found, unused-ignore]
    from fairseq.models.wav2vec.wav2vec2 import (  # type: ignore[import-not-found, unused-ignore]
        Wav2Vec2Config,
        Wav2Vec2Model,
    )

    content = torch.load(Path(sizes["folder"], "checkpoint.pt"), weights_only=False)
    state, cfg = content["model"], content["cfg"]["model"]
    known = {field.name for field in dataclasses.fields(Wav2Vec2Config)}
    settings = {name: value for name, value in cfg.get("w2v_args", {"model": cfg})["model"].items() if name in known}
    model = Wav2Vec2Model(Wav2Vec2Config(**settings)).eval()
    if sizes["tokens"] is None:
        model.load_state_dict(state)
        head = model.final_proj
    else:
        dictionary = content["task_state"]["target_dictionary"]
        assert isinstance(dictionary, Dictionary) and len(dictionary) == sizes["tokens"]
        assert (dictionary.bos(), dictionary.pad(), dictionary.eos(), dictionary.unk()) == (0, 1, 2, 3)
        model.remove_pretraining_modules()
        trunk = "w2v_encoder.w2v_model."
        model.load_state_dict({name.removeprefix(trunk): one for name, one in state.items() if name.startswith(trunk)})
        head = torch.nn.Linear(sizes["hidden_size"], sizes["tokens"])
        head.load_state_dict({name: state[f"w2v_encoder.proj.{name}"] for name in ("weight", "bias")})
    inputs = torch.load(sizes["folder"] + "/waveforms.pt")
    padding = torch.arange(inputs["values"].shape[1])[None] >= inputs["lengths"][:, None]
    return head(model(inputs["values"], padding_mask=padding, mask=False, features_only=True)["x"])  # type: ignore[no-any-return]


def import_fairseq(packages: Path) -> None:
    """Its model and its dictionary, without the parts that do not run on this Python or want other packages."""
    absent = {"omegaconf", "hydra", "bitarray", "sacrebleu", "iopath", "fairscale", "editdistance"}
    sys.meta_path.insert(0, _Absent(absent))
    for name in ("fairseq", "fairseq.data", "fairseq.models", "fairseq.models.wav2vec", "fairseq.modules"):
        without_its_init(name, packages)
    replaced: dict[str, dict[str, Any]] = {
        "fairseq.dataclass": {"ChoiceEnum": lambda names: str, "FairseqDataclass": object},
        "fairseq.distributed": {"fsdp_wrap": lambda module, *given: module},
        "fairseq.models": {"BaseFairseqModel": torch.nn.Module, "register_model": lambda *a, **k: lambda cls: cls},
        "fairseq.modules.conformer_layer": {"ConformerWav2Vec2EncoderLayer": object},
        "fairseq.modules.transformer_sentence_encoder": {"init_bert_params": lambda module: None},
        "fairseq.modules.checkpoint_activations": {"checkpoint_wrapper": lambda module: module},
        "fairseq.incremental_decoding_utils": {"with_incremental_state": lambda cls: cls},
    }
    for name, content in replaced.items():
        module = sys.modules.setdefault(name, types.ModuleType(name))
        vars(module).update(content)
    modules = sys.modules["fairseq.modules"]
    for file, names in (
        ("gelu", ["gelu", "gelu_accurate"]),
        ("fp32_group_norm", ["Fp32GroupNorm"]),
        ("layer_norm", ["LayerNorm", "Fp32LayerNorm"]),
        ("grad_multiply", ["GradMultiply"]),
        ("same_pad", ["SamePad"]),
        ("transpose_last", ["TransposeLast"]),
        ("gumbel_vector_quantizer", ["GumbelVectorQuantizer"]),
        ("multihead_attention", ["MultiheadAttention"]),
    ):
        loaded = importlib.import_module(f"fairseq.modules.{file}")
        vars(modules).update({name: getattr(loaded, name) for name in names})
    vars(modules)["RelPositionalEncoding"] = object


def main() -> None:
    """Load, run, write."""
    peer, packages, folder = sys.argv[1:]
    sizes = json.loads(Path(folder, "sizes.json").read_text()) | {"folder": folder}
    run = {"fairseq": fairseq_model, "torchaudio": torchaudio_model, "fairseq2": fairseq2_model}[peer]
    with torch.inference_mode():
        torch.save(run(Path(packages), sizes), Path(folder, "outputs.pt"))


if __name__ == "__main__":
    main()
