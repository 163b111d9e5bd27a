"""fairseq: pretrained models (wav2vec 2.0, XLSR, XLS-R, MMS), models fine-tuned for CTC, and MMS with its languages.

A file holds `model` (the tensors), `cfg` or, in older ones, `args` (all settings of the run), and, of fine-tuned
models, `task_state` with the dictionary. MMS adds `adapter`: for each language its tensors and its dictionary.
"""

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from wav2vec2.configuration import Wav2Vec2Config
from wav2vec2.modeling.loading import CheckpointError
from wav2vec2.sharing.converters.inert_pickles import Record, plain
from wav2vec2.sharing.converters.lazy_tensors import LazyTensor, Reshaped, StoredTensor
from wav2vec2.sharing.converters.portable_model import (
    CTC,
    TRUNK,
    Given,
    Language,
    PortableModel,
    arrange_head,
    assembled,
    check_language,
    check_rows,
    under_their_names,
)
from wav2vec2.sharing.converters.tensor_names import FAIRSEQ_TRUNK, Naming
from wav2vec2.sharing.converters.torch_file_writing import PickledObject, write_torch_file
from wav2vec2.sharing.converters.vocabularies import (
    FAIRSEQ_SPECIALS,
    Arranged,
    Vocabulary,
    arranged_for_fairseq,
    foreign_vocabulary,
    read_vocabulary,
)

CHECKPOINT, DICTIONARY = "checkpoint.pt", "dict.ltr.txt"
_ADAPTER = ".adapter_layer."
_HEAD = "w2v_encoder.proj."

#: Numbers that both have, by fairseq's name.
_NUMBERS = {
    "encoder_attention_heads": "num_attention_heads",
    "dropout": "hidden_dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "dropout_input": "feat_proj_dropout",
    "dropout_features": "feat_quantizer_dropout",
    "final_dropout": "final_dropout",
    "encoder_layerdrop": "layerdrop",
    "layerdrop": "layerdrop",
    "feature_grad_mult": "feature_grad_mult",
    "logit_temp": "contrastive_logits_temperature",
    "num_negatives": "num_negatives",
    "mask_prob": "mask_time_prob",
    "mask_length": "mask_time_length",
    "mask_channel_prob": "mask_feature_prob",
    "mask_channel_length": "mask_feature_length",
}


def is_fairseq(names: Sequence[str]) -> bool:
    """Whether tensors are called as fairseq calls them."""
    marks = ("w2v_encoder.", "post_extract_proj.", "feature_extractor.conv_layers.0.0.")
    return any(name.startswith(marks) for name in names)


def read_fairseq(
    source: Path, content: Mapping[str, Any], tensors: Mapping[str, LazyTensor], given: Given
) -> PortableModel:
    """A model of fairseq. `content` is all that its file holds, and `tensors` those of the model."""
    of_run = plain(content.get("cfg")) or plain(content.get("args")) or {}
    known = _known(of_run if isinstance(of_run, dict) else {})
    normalize = known.pop("normalize", None)
    if given.normalize is None and normalize is not None:
        given = Given(given.dictionary, given.config, normalize, given.language)
    trunk = FAIRSEQ_TRUNK if any(name.startswith("w2v_encoder.") for name in tensors) else ""
    tensors = {name: _without_count(name, tensor) for name, tensor in tensors.items()}
    languages = _languages_in(source, content) if trunk else {}
    language = _chosen(source, sorted(languages), given)
    chosen = {} if language is None else languages[language]["model"]
    left = [name for name, tensor in chosen.items() if name in tensors and not _same(tensor, tensors[name])]
    tensors |= chosen
    state = content.get("task_state") if language is None else languages[language]["task_state"]
    model = assembled(source, "fairseq", tensors, known, given, lambda: _dictionary(source, state), trunk)
    model.language = language
    naming = Naming.of(model.config, "fairseq", FAIRSEQ_TRUNK)
    ours_of = naming.of_all(ours for ours in model.tensors if _ADAPTER in ours or ours.startswith("lm_head."))
    model.languages = {name: _language(model, name, one, ours_of) for name, one in languages.items()}
    if left:
        model.notes.append(f"{language} is in place; adapters and head outside of all languages are not kept")
    return model


def _same(one: LazyTensor, other: LazyTensor) -> bool:
    return one.shape == other.shape and torch.equal(one.read(), other.read())


def _without_count(name: str, tensor: LazyTensor) -> LazyTensor:
    """An adapter has a first direction, its number among several; in MMS there is one."""
    if _ADAPTER in name and tensor.shape[:1] == (1,):
        return Reshaped(tensor, tensor.shape[1:])
    return tensor


def _known(of_run: dict[str, Any]) -> dict[str, Any]:
    """Fields of our configuration, from the settings of a run. Old files have them all side by side; in newer ones
    they are in sections. Those of the pretrained model lie inside of a fine-tuned one's, which go before them."""
    sections = _sections(of_run)
    found: dict[str, Any] = {}
    for section in sections:
        for theirs, ours in _NUMBERS.items():
            if isinstance(section.get(theirs), int | float) and not isinstance(section.get(theirs), bool):
                found[ours] = section[theirs]
        for theirs, ours in (("layer_norm_first", "do_stable_layer_norm"), ("apply_mask", "apply_spec_augment")):
            if isinstance(section.get(theirs), bool):
                found[ours] = section[theirs]
        if isinstance(section.get("normalize"), bool):
            found["normalize"] = section["normalize"]
        if isinstance(section.get("activation_fn"), str):
            found["hidden_act"] = section["activation_fn"]
        if strides := _strides(section.get("conv_feature_layers")):
            found["conv_stride"] = strides
        found |= _temperatures(section.get("latent_temp")) | _weights(section.get("loss_weights"))
    return found


def _sections(of_run: dict[str, Any]) -> list[dict[str, Any]]:
    """The dictionaries in which settings of the model stand, the inner ones first."""
    outer = [part for part in (of_run, *(of_run.get(name) for name in ("task", "criterion", "model"))) if isinstance(part, dict)]  # fmt: skip  # noqa: E501
    inner = [part["w2v_args"] for part in outer if isinstance(part.get("w2v_args"), dict)]
    return [*(section for part in inner for section in _sections({**part, "w2v_args": None})), *outer]


def _strides(written: Any) -> list[int] | None:
    """The strides in a text such as "[(512, 10, 5)] + [(512, 3, 2)] * 4", which fairseq runs and we read."""
    if not isinstance(written, str) or len(written) > 2000:
        return None
    try:
        layers = _list_in(ast.parse(written.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        return None
    return [layer[2] for layer in layers]


def _list_in(node: ast.expr) -> list[tuple[int, int, int]]:
    match node:
        case ast.List(elts=entries):
            found = [tuple(ast.literal_eval(entry)) for entry in entries]
            if not all(len(one) == 3 and all(type(number) is int for number in one) for one in found):
                raise ValueError("a layer is not three whole numbers")
            return [(one[0], one[1], one[2]) for one in found]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _list_in(left) + _list_in(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=ast.Constant(value=int(times))) if 0 <= times < 100:
            return _list_in(left) * times
    raise ValueError("is no list of layers")


def _numbers(written: Any, count: int) -> list[float] | None:
    """So many numbers, from a list or from a text that is one."""
    if isinstance(written, str) and len(written) < 200:
        try:
            written = ast.literal_eval(written)
        except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
            return None
    sound = isinstance(written, list | tuple) and len(written) == count
    return list(written) if sound and all(isinstance(one, int | float) for one in written) else None


def _temperatures(written: Any) -> dict[str, Any]:
    if (numbers := _numbers(written, 3)) is None:
        return {}
    names = ("gumbel_temperature_start", "gumbel_temperature_end", "gumbel_temperature_decay")
    return dict(zip(names, numbers, strict=True))


def _weights(written: Any) -> dict[str, Any]:
    if (numbers := _numbers(written, 2)) is None:
        return {}
    return dict(zip(("diversity_loss_weight", "feature_penalty_weight"), numbers, strict=True))


def _dictionary(source: Path, state: Any) -> Vocabulary | None:
    """The tokens that a file has itself, or those of the one `dict.*.txt` beside it."""
    holder = state.get("target_dictionary") if isinstance(state, Mapping) else None
    content = holder.state if isinstance(holder, Record) else holder
    symbols = content.get("symbols") if isinstance(content, Mapping) else None
    if isinstance(symbols, list) and all(isinstance(symbol, str) for symbol in symbols):
        return foreign_vocabulary(source, symbols)
    beside = sorted(source.parent.glob("dict.*.txt"))
    return read_vocabulary(beside[0]) if len(beside) == 1 else None


def _languages_in(source: Path, content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The languages of MMS: of each its `model`, which are tensors, and its `task_state`."""
    found: dict[str, dict[str, Any]] = {}
    adapters = content.get("adapter")
    for name, state in (adapters if isinstance(adapters, Mapping) else {}).items():
        stored = state.get("model") if isinstance(state, Mapping) else None
        sound = isinstance(stored, Mapping) and all(isinstance(one, StoredTensor) for one in stored.values())
        if not isinstance(name, str) or not name or Path(name).name != name or not sound or stored is None:
            raise CheckpointError(f"{source}, language {name!r}: is no name of a language with its tensors")
        tensors = {str(key): _without_count(str(key), one) for key, one in stored.items()}
        found[name] = {"model": tensors, "task_state": state.get("task_state")}
    return found


def _chosen(source: Path, names: list[str], given: Given) -> str | None:
    """The language that is asked for, English, or the first."""
    if given.language is not None and given.language not in names:
        raise CheckpointError(f"{source}: has no language {given.language!r}; it has {', '.join(names[:20]) or 'none'}")
    return given.language or ("eng" if "eng" in names else next(iter(names), None))


def _language(model: PortableModel, name: str, state: Mapping[str, Any], ours_of: Mapping[str, str]) -> Language:
    where = f"{model.source}, language {name!r}"
    tensors = {ours_of.get(theirs, theirs): tensor for theirs, tensor in state["model"].items()}
    vocabulary = _dictionary(model.source / name, state["task_state"])
    if vocabulary is None:
        raise CheckpointError(f"{where}: has no dictionary")
    check_language(where, model, tensors)
    check_rows(where, vocabulary, tensors["lm_head.weight"].shape[0])
    return Language(tensors, vocabulary)


def write_fairseq(model: PortableModel, folder: Path) -> None:
    """Write `checkpoint.pt`, and for CTC `dict.ltr.txt`."""
    if model.architecture == TRUNK:
        model.notes.append("no head: fairseq loads it with strict=False alone, into a model for pretraining or CTC")
    content: dict[str, Any] = {"args": None, "cfg": _cfg(model)}
    trunk = ""
    if model.architecture == CTC and model.vocabulary is not None:
        arranged = arranged_for_fairseq(model.vocabulary)
        arrange_head(model, arranged, "fairseq")
        _write_dictionary(folder / DICTIONARY, arranged)
        content["task_state"] = {"target_dictionary": _pickled_dictionary(arranged)}
        trunk = FAIRSEQ_TRUNK
    tensors = under_their_names(model, "fairseq", trunk)
    content["model"] = {name: _with_count(name, tensor) for name, tensor in tensors.items()}
    if model.languages:
        content["adapter"] = {name: _written_language(model, one) for name, one in model.languages.items()}
    updates = model.config.pretraining_updates
    content["optimizer_history"] = [{"optimizer_name": "none", "lr_scheduler_state": {}, "num_updates": updates}]
    content |= {"extra_state": {"train_iterator": {"epoch": 1}}, "last_optimizer_state": None}
    write_torch_file(folder / CHECKPOINT, content)


def _with_count(name: str, tensor: LazyTensor) -> LazyTensor:
    return Reshaped(tensor, (1, *tensor.shape)) if _ADAPTER in name else tensor


def _written_language(model: PortableModel, language: Language) -> dict[str, Any]:
    arranged = arranged_for_fairseq(language.vocabulary)
    alone = PortableModel(
        model.source, CTC, model.config, dict(language.tensors), model.normalize, language.vocabulary, notes=model.notes
    )
    arrange_head(alone, arranged, "fairseq")
    named = under_their_names(alone, "fairseq", FAIRSEQ_TRUNK)
    tensors = {name: _with_count(name, tensor) for name, tensor in named.items()}
    return {"model": tensors, "task_state": {"target_dictionary": _pickled_dictionary(arranged)}}


def _pickled_dictionary(arranged: Arranged) -> PickledObject:
    words = dict(zip(("bos_word", "pad_word", "eos_word", "unk_word"), FAIRSEQ_SPECIALS, strict=True))
    places = {"bos_index": 0, "pad_index": 1, "eos_index": 2, "unk_index": 3, "nspecial": 4}
    symbols = {
        "symbols": arranged.tokens,
        "count": [1] * len(arranged.tokens),
        "indices": {token: row for row, token in enumerate(arranged.tokens)},
    }
    return PickledObject("fairseq.data.dictionary", "Dictionary", {**words, **symbols, **places})


def _write_dictionary(path: Path, arranged: Arranged) -> None:
    others = arranged.tokens[len(FAIRSEQ_SPECIALS) :]
    if spaced := [token for token in others if token.split() != [token]]:
        raise CheckpointError(f"{path.name}: a dictionary of fairseq has no place for tokens with spaces: {spaced}")
    path.write_text("".join(f"{token} 1\n" for token in others), encoding="utf-8")


def _cfg(model: PortableModel) -> dict[str, Any]:
    """Settings under fairseq's names, in its sections."""
    config = model.config
    pretraining = {
        "_name": "wav2vec2",
        "extractor_mode": "layer_norm" if config.feat_extract_norm == "layer" else "default",
        "encoder_layers": config.num_hidden_layers,
        "encoder_embed_dim": config.hidden_size,
        "encoder_ffn_embed_dim": config.intermediate_size,
        "activation_fn": config.hidden_act,
        "layer_norm_first": config.do_stable_layer_norm,
        "conv_feature_layers": repr(_layers_of(config)),
        "conv_bias": config.conv_bias,
        "conv_pos": config.num_conv_pos_embeddings,
        "conv_pos_groups": config.num_conv_pos_embedding_groups,
        "quantize_targets": True,
        "final_dim": config.proj_codevector_dim,
        "latent_vars": config.num_codevectors_per_group,
        "latent_groups": config.num_codevector_groups,
        "latent_dim": config.codevector_dim,
        "latent_temp": [
            config.gumbel_temperature_start, config.gumbel_temperature_end, config.gumbel_temperature_decay
        ],
        **{theirs: getattr(config, ours) for theirs, ours in _NUMBERS.items() if theirs not in _OF_FINE_TUNING},
    }  # fmt: skip
    if config.adapter_attn_dim is not None:
        adapters = {"layer_type": "trf_adp", "adp_num": 1, "adp_dim": config.adapter_attn_dim, "adp_act_fn": "relu"}
        pretraining |= {**adapters, "adp_trf_idx": "all"}
    weights = [config.diversity_loss_weight, config.feature_penalty_weight]
    criterion = {"_name": "wav2vec", "infonce": True, "loss_weights": weights, "log_keys": []}
    task = {"_name": "audio_pretraining", "data": "", "normalize": model.normalize, "sample_rate": 16000}
    if model.architecture != CTC:
        return {"_name": None, "task": task, "model": pretraining, "criterion": criterion}
    numbers = {theirs: getattr(config, ours) for theirs, ours in _NUMBERS.items() if theirs not in _OF_PRETRAINING}
    fine_tuned = {
        "_name": "wav2vec_ctc",
        "w2v_path": "",
        "no_pretrained_weights": True,
        "normalize": model.normalize,
        "apply_mask": config.apply_spec_augment,
        "w2v_args": {"_name": None, "task": task, "model": pretraining, "criterion": criterion},
        **numbers,
    }
    task = {**task, "_name": "audio_finetuning", "labels": "ltr"}
    return {"_name": None, "task": task, "model": fine_tuned, "criterion": {"_name": "ctc", "zero_infinity": True}}


#: Settings of a fine-tuned model alone, and of a pretrained one alone.
_OF_FINE_TUNING = ("final_dropout", "layerdrop")
_OF_PRETRAINING = (
    "encoder_attention_heads", "encoder_layerdrop", "dropout_features", "logit_temp", "num_negatives"
)  # fmt: skip


def _layers_of(config: Wav2Vec2Config) -> list[tuple[int, int, int]]:
    return list(zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True))
