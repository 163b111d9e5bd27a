"""Checkpoints of fairseq, fairseq2 and torchaudio become models that compute the same, and go back bit for bit."""

import json
from pathlib import Path
from typing import Any

import foreign_checkpoints as foreign
import pytest
import torch
import transformers
from fast_cases import fast_cases
from foreign_checkpoints import ARCHITECTURES, CTC, ORIGINS, PRETRAINING, TRUNK
from language_folders import write_languages
from recognition_checkpoints import write_noise
from small_models import CALM, HEADS, small_config, waveforms
from typer.testing import CliRunner

import wav2vec2
from wav2vec2 import CheckpointError, Wav2Vec2ForCTC, convert_checkpoint
from wav2vec2.command_line.app import app
from wav2vec2.configuration import presets
from wav2vec2.configuration.frame_arithmetic import output_length
from wav2vec2.sharing.converters.architecture import HEADS as PUBLISHED_HEADS

#: What each origin has models for.
KINDS = [("fairseq", CTC), ("fairseq", PRETRAINING), ("fairseq2", CTC), ("fairseq2", PRETRAINING)]
KINDS += [("torchaudio", CTC), ("torchaudio", TRUNK)]


def converted(origin: str, tmp_path: Path, architecture: str, kind: str, **overrides: Any) -> tuple[Any, Path]:
    """A random checkpoint of an origin, converted; its configuration and the folder."""
    config = foreign.save(origin, tmp_path / origin / "model.pt", architecture, kind, **overrides)
    known = {} if origin == "fairseq" else foreign.without_settings(config)
    dictionary = tmp_path / origin / "dict.ltr.txt"
    dictionary.write_text(foreign.LETTERS)
    options: dict[str, Any] = {"dictionary": dictionary} if kind == CTC and origin == "fairseq2" else {}
    done = convert_checkpoint(tmp_path / origin / "model.pt", tmp_path / f"{origin}-ours", config=known, **options)
    assert (done.origin, done.architecture) == (origin, kind)
    return config, done.folder


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "mms"])
def test_a_model_of_fairseq_computes_what_it_did(architecture: str, tmp_path: Path) -> None:
    """Logits in a padded batch, here and in stock, beside the slow version on each clip alone."""
    config, folder = converted("fairseq", tmp_path, architecture, CTC)
    state = torch.load(tmp_path / "fairseq" / "model.pt", weights_only=True)["model"]
    lengths = [4000, 2500]
    values, mask = waveforms(lengths)
    ours = Wav2Vec2ForCTC.from_pretrained(folder).eval()
    stock = transformers.Wav2Vec2ForCTC.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits = ours(values, attention_mask=mask).logits
        for row, length in enumerate(lengths):
            slow = foreign.slow_logits(state, config, values[row, :length])
            frames = output_length(length, config)
            assert slow.shape == (frames, len(foreign.TOKENS)) and slow.std() > 0.05
            torch.testing.assert_close(logits[row, :frames], slow, atol=1e-4, rtol=0)
            torch.testing.assert_close(stock(values[row : row + 1, :length]).logits[0], slow, atol=1e-4, rtol=0)


@pytest.mark.parametrize("architecture", fast_cases(ARCHITECTURES, "large_lv60k"))
@pytest.mark.parametrize("origin", ["fairseq2", "torchaudio"])
def test_the_same_tensors_under_other_names_are_the_same_model(origin: str, architecture: str, tmp_path: Path) -> None:
    _, first = converted("fairseq", tmp_path, architecture, CTC)
    _, second = converted(origin, tmp_path, architecture, CTC)
    one, other = (Wav2Vec2ForCTC.from_pretrained(folder).state_dict() for folder in (first, second))
    differing = {name for name in one if not torch.equal(one[name], other[name])}
    assert differing == ({"wav2vec2.masked_spec_embed"} if origin == "torchaudio" else set())
    assert json.loads((first / "vocab.json").read_text()) == json.loads((second / "vocab.json").read_text())


@pytest.mark.parametrize("architecture", fast_cases(ARCHITECTURES, "base"))
@pytest.mark.parametrize(("origin", "kind"), KINDS)
def test_there_and_back_is_bit_equal(origin: str, kind: str, architecture: str, tmp_path: Path) -> None:
    """The same names, values and types; the second conversion needs to be told nothing."""
    _, folder = converted(origin, tmp_path, architecture, kind)
    convert_checkpoint(folder, tmp_path / "back", origin)
    first, second = (torch.load(path, weights_only=False) for path in (tmp_path / origin / "model.pt", _safe(tmp_path)))
    first, second = first.get("model", first), second.get("model", second)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]) and tensor.dtype == second[name].dtype, name


def _safe(tmp_path: Path) -> Any:
    """The file that came back, without the object of fairseq in it, whose class is not here."""
    with foreign.foreign_classes():
        content = torch.load(tmp_path / "back" / "checkpoint.pt", weights_only=False)
    content.pop("task_state", None)
    torch.save(content, tmp_path / "tensors.pt")
    return tmp_path / "tensors.pt"


@pytest.mark.parametrize("origin", ORIGINS)
def test_half_precision_stays_half(origin: str, tmp_path: Path) -> None:
    config = small_config("large_lv60k", vocab_size=len(foreign.TOKENS))
    state = {name: one.bfloat16() for name, one in foreign.tensors(origin, config, CTC).items()}
    content = {"fairseq": {"model": state, "cfg": foreign.cfg(config, CTC)}, "fairseq2": {"model": state}}
    torch.save(content.get(origin, state), tmp_path / "model.pt")
    (tmp_path / "letters.txt").write_text("\n".join(foreign.TOKENS))
    known = foreign.without_settings(config)
    done = convert_checkpoint(
        tmp_path / "model.pt", tmp_path / "ours", config=known, dictionary=tmp_path / "letters.txt"
    )
    model = transformers.Wav2Vec2ForCTC.from_pretrained(done.folder)
    assert model.dtype == torch.bfloat16
    assert torch.equal(model.lm_head.bias, state[{"fairseq": "w2v_encoder.proj.bias", "fairseq2": "final_proj.bias", "torchaudio": "aux.bias"}[origin]])  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("to", ORIGINS)
@pytest.mark.parametrize("model_class", fast_cases(HEADS[:3], HEADS[2]))
def test_our_models_go_there_and_come_back(model_class: Any, to: str, tmp_path: Path) -> None:
    """What another framework has a place for is the same; nothing but the rest is said to be left out."""
    torch.manual_seed(0)
    model = model_class(small_config("large_lv60k", vocab_size=len(foreign.TOKENS)))
    model.save_pretrained(tmp_path / "ours")
    wav2vec2.Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path / "ours")
    ids = {token: row for row, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *"abcde"])}
    wav2vec2.Wav2Vec2CTCTokenizer(ids).save_pretrained(tmp_path / "ours")
    there = convert_checkpoint(tmp_path / "ours", tmp_path / "there", to)
    known = {} if to == "fairseq" else foreign.without_settings(model.config)
    back = convert_checkpoint(there.folder, tmp_path / "back", config=known, normalize=False)
    first, second = model.state_dict(), getattr(wav2vec2, back.architecture).from_pretrained(back.folder).state_dict()
    prefix = "wav2vec2." if back.architecture == TRUNK and model_class.__name__ != TRUNK else ""
    kept = {name.removeprefix(prefix) for name in first} & set(second)
    expected = {name.removeprefix(prefix) for name in first if not _only_pretraining(name, to)}
    assert {name for name in kept if torch.equal(first.get(name, first.get(prefix + name)), second[name])} == expected
    settings = json.loads((tmp_path / "back" / "preprocessor_config.json").read_text())
    assert settings["do_normalize"] is False


def _only_pretraining(name: str, to: str) -> bool:
    return to == "torchaudio" and name.split(".")[-1 if "masked" in name else 0] in (
        *("masked_spec_embed", "quantizer", "project_q", "project_hid"),
    )


def test_a_head_without_their_special_tokens_gets_rows_that_are_never_chosen(tmp_path: Path) -> None:
    """And one whose blank is not the first row is brought into their order: the same texts."""
    config = small_config("large_lv60k", vocab_size=5, pad_token_id=4)
    torch.manual_seed(3)
    model = Wav2Vec2ForCTC(config).eval()
    model.save_pretrained(tmp_path / "ours")
    ids = {"a": 0, "b": 1, "|": 2, "c": 3, "[PAD]": 4}
    tokenizer = wav2vec2.Wav2Vec2CTCTokenizer(ids, pad_token="[PAD]", unk_token=None, bos_token=None, eos_token=None)
    wav2vec2.Wav2Vec2Processor(wav2vec2.Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(tmp_path / "ours")
    values, _ = waveforms([4000])
    with torch.inference_mode():
        logits = model(values).logits[0]
        for to in ORIGINS:
            there = convert_checkpoint(tmp_path / "ours", tmp_path / to, to)
            assert ("never chosen: <pad>, </s>, <unk>" in "".join(there.notes)) == (to != "torchaudio"), there.notes
            known = {} if to == "fairseq" else foreign.without_settings(config)
            back = convert_checkpoint(there.folder, tmp_path / f"{to}-back", config=known).folder
            found = Wav2Vec2ForCTC.from_pretrained(back).eval()(values).logits[0]
            names = wav2vec2.Wav2Vec2CTCTokenizer.from_pretrained(back).get_vocab()
            order = [names["<pad>" if token == "[PAD]" else token] for token in ids]
            torch.testing.assert_close(found[:, order], logits, atol=1e-6, rtol=0)
            rest = sorted(set(range(found.shape[1])) - set(order))
            assert (found[:, rest] == -1e4).all()


def test_settings_of_a_run_become_fields_of_the_configuration(tmp_path: Path) -> None:
    """Those of new files, in sections; a fine-tuned model's own go before those of what it started from."""
    _, ctc = converted("fairseq", tmp_path, "large_lv60k", CTC)
    config = json.loads((ctc / "config.json").read_text())
    assert (config["num_attention_heads"], config["do_stable_layer_norm"], config["hidden_dropout"]) == (4, True, 0.05)
    assert (config["layerdrop"], config["final_dropout"], config["feat_extract_norm"]) == (0.1, 0.25, "layer")
    assert config["conv_stride"] == [5, 2, 2, 2, 2, 2, 2] and config["pad_token_id"] == 0
    assert json.loads((ctc / "preprocessor_config.json").read_text())["do_normalize"] is True
    _, pretrained = converted("fairseq", tmp_path / "other", "base", PRETRAINING)
    config = json.loads((pretrained / "config.json").read_text())
    assert (config["diversity_loss_weight"], config["feature_penalty_weight"]) == (0.3, 7)
    assert (config["gumbel_temperature_end"], config["gumbel_temperature_decay"]) == (0.25, 0.9999)
    assert (config["num_codevector_groups"], config["num_codevectors_per_group"]) == (2, 8)
    assert json.loads((pretrained / "preprocessor_config.json").read_text())["do_normalize"] is False


@pytest.mark.parametrize("how", ["Namespace", "omegaconf", "not a zip archive"])
def test_settings_are_read_without_the_classes_that_hold_them(how: str, tmp_path: Path) -> None:
    """Of releases before 0.10, of those that saved omegaconf's objects, and of torch before 1.6."""
    config = small_config("base", vocab_size=len(foreign.TOKENS))
    content: dict[str, Any] = {"model": foreign.tensors("fairseq", config, CTC)}
    with foreign.foreign_classes() as classes:
        symbols = {"symbols": foreign.TOKENS, "count": [1] * 10, "indices": {}}
        content["task_state"] = {"target_dictionary": foreign.holding(classes.Dictionary, **symbols)}
        if how == "omegaconf":
            content["cfg"] = _as_omegaconf(foreign.cfg(config, CTC), classes)
        else:
            content["args"] = foreign.old_args(config)
        torch.save(content, tmp_path / "model.pt", _use_new_zipfile_serialization=how != "not a zip archive")
    done = convert_checkpoint(tmp_path / "model.pt", tmp_path / "ours")
    found = json.loads((done.folder / "config.json").read_text())
    assert (found["num_attention_heads"], found["hidden_dropout"]) == (4, 0.05)
    assert json.loads((done.folder / "vocab.json").read_text())["|"] == 4
    if how != "omegaconf":
        assert found["mask_time_prob"] == 0.6 and found["apply_spec_augment"] is True


def _as_omegaconf(value: Any, classes: Any) -> Any:
    if isinstance(value, dict):
        content = {key: _as_omegaconf(entry, classes) for key, entry in value.items()}
        return foreign.holding(classes.DictConfig, _metadata=None, _parent=None, _content=content)
    return foreign.holding(classes.AnyNode, _metadata=None, _parent=None, _val=value)


def test_languages_of_mms_come_along_and_go_back(tmp_path: Path) -> None:
    """Each language's adapters, head and dictionary; stock switches between them."""
    french = [*foreign.TOKENS[:5], "\u00e9"]
    dictionaries = {"eng": foreign.TOKENS, "fra": french, "hin-script_devanagari": foreign.TOKENS}
    state, languages = foreign.save_languages(tmp_path / "mms.pt", dictionaries)
    folder = convert_checkpoint(tmp_path / "mms.pt", tmp_path / "ours").folder
    stock = transformers.Wav2Vec2ForCTC.from_pretrained(folder, target_lang="fra", ignore_mismatched_sizes=True)
    assert torch.equal(stock.lm_head.bias, languages["fra"]["w2v_encoder.proj.bias"])
    tokenizer = wav2vec2.Wav2Vec2CTCTokenizer.from_pretrained(folder)
    model = Wav2Vec2ForCTC.from_pretrained(folder)
    model.set_language("fra", tokenizer=tokenizer)
    name = "encoder.layers.1.adapter_layer.W_b"
    theirs = languages["fra"][f"w2v_encoder.w2v_model.{name}"][0]
    assert torch.equal(model.wav2vec2.encoder.layers[1].adapter_layer.linear_2.weight, theirs)
    assert tokenizer.decode([5]) == "\u00e9"
    convert_checkpoint(folder, tmp_path / "back", "fairseq")
    with foreign.foreign_classes():
        back = torch.load(tmp_path / "back" / "checkpoint.pt", weights_only=False)
        for language, one in languages.items():
            found = back["adapter"][language]
            assert vars(found["task_state"]["target_dictionary"])["symbols"] == dictionaries[language]
            assert one.keys() == found["model"].keys()
            assert all(torch.equal(tensor, found["model"][name]) for name, tensor in one.items())
    assert all(torch.equal(tensor, back["model"][name]) for name, tensor in state.items())
    with pytest.raises(CheckpointError, match="has no language 'deu'; it has eng, fra, hin"):
        convert_checkpoint(tmp_path / "mms.pt", tmp_path / "german", language="deu")
    with pytest.raises(CheckpointError, match="torchaudio has no language adapters"):
        convert_checkpoint(folder, tmp_path / "torchaudio", "torchaudio")


def test_a_folder_of_languages_as_users_have_it_goes_to_fairseq(tmp_path: Path) -> None:
    """With adapters as safetensors and as torch's files."""
    files = write_languages(tmp_path / "ours")
    done = convert_checkpoint(tmp_path / "ours", tmp_path / "there", "fairseq", language="deu")
    back = convert_checkpoint(done.folder, tmp_path / "back", language="deu").folder
    model = Wav2Vec2ForCTC.from_pretrained(back)
    for name, tensor in files["deu"].items():
        found = model.state_dict()[name]
        assert torch.equal(found if ".adapter_layer." in name else found[[0, 4, *range(5, len(found))]], tensor)


def test_published_sizes_have_their_heads() -> None:
    """Those that the presets state, which have their sources; no two sizes share layers and width."""
    sizes = [presets.base(), presets.large(), presets.xls_r_300m(), presets.xls_r_1b(), presets.xls_r_2b()]
    sizes += [
        presets.mms_1b(),
        presets.omniasr_300m(),
        presets.omniasr_1b(),
        presets.omniasr_3b(),
        presets.omniasr_7b(),
    ]
    found = {(one.num_hidden_layers, one.hidden_size): one.num_attention_heads for one in sizes}
    assert found == PUBLISHED_HEADS
    assert [found[layers, 2048] for layers in (60, 128)] == [16, 16]


@pytest.mark.parametrize(("origin", "kind"), KINDS)
def test_what_stands_in_no_file_is_asked_for(origin: str, kind: str, tmp_path: Path) -> None:
    config = foreign.save(origin, tmp_path / "model.pt", "base", kind)
    for path in tmp_path.glob("*.txt"):
        path.unlink()
    if origin != "fairseq":
        with pytest.raises(CheckpointError, match="num_attention_heads stands in no tensor, and 3 layers of width 48"):
            convert_checkpoint(tmp_path / "model.pt", tmp_path / "ours")
    if kind == CTC:
        with pytest.raises(CheckpointError, match="has a CTC head of 10 tokens and does not say which"):
            convert_checkpoint(tmp_path / "model.pt", tmp_path / "ours", config=foreign.without_settings(config))
    assert not (tmp_path / "ours").exists() and not (tmp_path / "ours.partial").exists()


def test_a_setting_that_the_source_says_otherwise_is_told(tmp_path: Path) -> None:
    config = foreign.save("fairseq", tmp_path / "model.pt", "base", TRUNK)
    heads = 2 * config.num_attention_heads
    given = {"num_attention_heads": heads, "conv_stride": list(config.conv_stride)}  # the second as it is
    done = convert_checkpoint(tmp_path / "model.pt", tmp_path / "ours", config=given)
    assert [one for one in done.notes if "as given" in one] == [
        f"num_attention_heads: {heads} as given, where the source or the published model of this size has "
        f"{config.num_attention_heads}"
    ]


@pytest.mark.parametrize("origin", ORIGINS)
def test_names_that_are_missing_unknown_or_misshapen_are_listed(origin: str, tmp_path: Path) -> None:
    config = foreign.save(origin, tmp_path / "model.pt", "base", CTC)
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    state = content.get("model", content)
    names = [name for name in state if "layers.1" in name and "q_proj" in name]
    del state[names[0]]
    state[names[1]] = torch.zeros(7)
    state["encoder_frontend.extra" if origin == "fairseq2" else "extra.weight"] = torch.zeros(2)
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError) as caught:
        convert_checkpoint(tmp_path / "model.pt", tmp_path / "ours", config=foreign.without_settings(config))
    said = str(caught.value)
    assert f"{names[0]}: missing" in said and f"{names[1]}: (7,) in the file, (48,) in the model" in said
    assert "extra" in said.split("unknown")[0].splitlines()[-1]
    assert not (tmp_path / "ours").exists()


def test_what_others_cannot_hold_is_refused(tmp_path: Path) -> None:
    others: dict[str, dict[str, Any]] = {"relu": {"hidden_act": "relu"}}
    others["recurrent"] = {"ctc_head": "recurrent", "ctc_head_size": 8}
    ids = {token: row for row, token in enumerate(["<pad>", *foreign.TOKENS[2:], "x"])}
    for name, fields in others.items():
        Wav2Vec2ForCTC(small_config(vocab_size=10, **fields)).save_pretrained(tmp_path / name)
        wav2vec2.Wav2Vec2CTCTokenizer(ids).save_pretrained(tmp_path / name)
        with pytest.raises(CheckpointError, match=f"torchaudio has no models with {next(iter(fields))}="):
            convert_checkpoint(tmp_path / name, tmp_path / "there", "torchaudio")
    wav2vec2.Wav2Vec2ForXVector(small_config()).save_pretrained(tmp_path / "voices")
    with pytest.raises(CheckpointError, match="is a wav2vec2 with the architecture Wav2Vec2ForXVector; what other"):
        convert_checkpoint(tmp_path / "voices", tmp_path / "there", "fairseq")
    with pytest.raises(ValueError, match="must be one of transformers, fairseq, fairseq2, torchaudio"):
        convert_checkpoint(tmp_path / "voices", tmp_path / "there", "jax")
    with pytest.raises(ValueError, match="is there already; delete it"):
        convert_checkpoint(tmp_path / "voices", tmp_path / "relu", "fairseq")
    with pytest.raises(CheckpointError, match="no such file or folder; models that come with wav2vec2: small"):
        convert_checkpoint("smal", tmp_path / "there", "fairseq")


def test_the_model_that_comes_with_the_package_goes_by_its_name(tmp_path: Path) -> None:
    """In three files of its own; sharded again when it comes back, with the same values."""
    done = convert_checkpoint("small", tmp_path / "there", "fairseq")
    back = convert_checkpoint(done.folder, tmp_path / "back")
    one, other = (getattr(wav2vec2, back.architecture).from_pretrained(name) for name in ("small", str(back.folder)))
    assert done.parameters == back.parameters == sum(tensor.numel() for tensor in one.state_dict().values())
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


@pytest.mark.slow
def test_the_command_converts_and_the_others_take_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.chdir(tmp_path)
    config = foreign.save("fairseq2", tmp_path / "omni.pt", "large_lv60k", CTC, **CALM)
    Path("letters.txt").write_text("\n".join(foreign.TOKENS))
    options = [f"--config={name}={value}" for name, value in foreign.without_settings(config).items()]
    run = CliRunner()
    done = run.invoke(app, ["convert", "omni.pt", "ours", "--dictionary", "letters.txt", *options])
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("ours: Wav2Vec2ForCTC of ") and done.stdout.endswith(
        "from fairseq2 to transformers\n"
    )
    write_noise(Path("sound.wav"), 1.0, 0)
    assert run.invoke(app, ["transcribe", "sound.wav", "--model", "ours"]).exit_code == 0
    Path("test.tsv").write_text("path\ttranscript\nsound.wav\tET ON\n")
    assert run.invoke(app, ["evaluate", "--model", "ours", "--data", "test.tsv"]).exit_code == 0
    Path("sound.txt").write_text("ET ON\n")
    assert run.invoke(app, ["align", "sound.wav", "sound.txt", "--model", "ours"]).exit_code == 0
    assert run.invoke(app, ["convert", "ours", "there", "--to", "fairseq2"]).exit_code == 0
    again = run.invoke(app, ["convert", "ours", "there", "--to", "fairseq2"])
    assert again.exit_code == 1 and again.stderr == "convert: there: is there already; delete it, or choose another destination\n"  # fmt: skip  # noqa: E501
    assert run.invoke(app, ["convert", "omni.pt", "more", "--config", "heads"]).exit_code == 2
