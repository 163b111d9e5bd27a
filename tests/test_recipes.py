"""The shipped recipes: the published numbers, typed here by hand, and nothing that the defaults say already."""

from pathlib import Path
from typing import Any, cast

import pytest

from wav2vec2 import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC
from wav2vec2.configuration import presets
from wav2vec2.files.shipped_checkpoints import located
from wav2vec2.training.held_part import reason_against_encoder
from wav2vec2.training.settings.classification_run import ClassificationRun
from wav2vec2.training.settings.model_choice import preset_config
from wav2vec2.training.settings.recipe_files import find_recipe, listing, shipped_recipes
from wav2vec2.training.settings.recipes import RunConfigError, read_run, resolve
from wav2vec2.training.settings.run_config import FinetuneRun, PretrainRun, to_dict
from wav2vec2.training.settings.strict_yaml import read_file
from wav2vec2.training.slots import SlotsRun

PRETRAINING = ["base_960h", "large_960h", "large_lv60k", "xls_r_300m", "continue_from_checkpoint", "tiny_cpu"]
PRETRAINING += ["small_minutes", "small_cpu", "wav2vec_2019", "vq_wav2vec", "xls_r_1b", "xls_r_2b", "omniasr_3b"]
SETS = ("10m", "1h", "10h", "100h", "960h")
FINETUNING = [
    "ctc_crnn",
    "ctc_time_frequency_lstm",
    *(f"ctc_{size}_{hours}" for size in ("base", "large") for hours in SETS),
    "ctc_xls_r_new_language",
    "ctc_mms_new_language",
    "ctc_overfit_10",
    "ctc_tiny_cpu",
    "ctc_small_minutes",
    "ctc_phonemes",
    "ctc_phonemes_crnn",
    "ctc_streaming",
    "superb_sf",
]
LABELS = ["superb_ks", "labels_small_minutes", "labels_depthwise_cnn", "labels_crnn", "events_small_minutes"]
SLOTS = ["superb_ic", "slots_small_minutes"]
ALL = PRETRAINING + FINETUNING + LABELS + SLOTS
#: What every recipe leaves to its user.
OWN = {"ctc_mms_new_language": ["tuning.language=fao"]}


def kind_of(name: str) -> Any:
    if name in SLOTS:
        return SlotsRun
    return PretrainRun if name in PRETRAINING else ClassificationRun if name in LABELS else FinetuneRun


def read(name: str) -> Any:
    return read_run(kind_of(name), name, ["data.train.0.path=a", *OWN.get(name, [])])


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def test_every_recipe_is_here() -> None:
    assert sorted(shipped_recipes()) == sorted(ALL)


@pytest.mark.parametrize("name", ALL)
def test_a_recipe_needs_only_the_audio(name: str) -> None:
    """And says which override gives it, before anything starts."""
    with pytest.raises(RunConfigError, match=r"data\.train=\[\]: no audio .* such as data\.train\.0\.path=FOLDER") as e:
        read_run(kind_of(name), name, OWN.get(name, []))
    assert len(e.value.problems) == 1
    run = read(name)
    assert run.run.output.startswith("outputs/")
    assert run.origin.recipe == f"{name}.yaml"


@pytest.mark.parametrize("name", ALL)
def test_a_recipe_says_only_what_differs(name: str) -> None:
    """Every value differs from that of the recipe it extends, or from the default of its kind of run."""
    path = find_recipe(name)
    values, _ = read_file(path)
    parent = values.pop("extends", None)
    start = ["model.preset=base", "data.train.0.path=a", "run.output=o"]
    below = read_run(kind_of(name), None, start) if parent is None else read(Path(parent).stem)
    before = leaves(to_dict(below))
    if parent is None:
        before.pop("model.preset")  # not a default: there is none
        before.pop("task", None)  # what the reader of a recipe chooses the kind of run by
    said = leaves(values)
    assert said
    assert {key: value for key, value in said.items() if before.get(key, "nothing") == value} == {}


@pytest.mark.parametrize("name", ALL)
def test_a_recipe_says_where_its_numbers_come_from(name: str) -> None:
    """At least a comment at its head, and it is read as the same run when it is listed."""
    assert find_recipe(name).read_text(encoding="utf-8").startswith("# ")
    resolved = resolve(kind_of(name), name, ["data.train.0.path=a", *OWN.get(name, [])])
    assert "# default\n" in listing(resolved.run, resolved.layers)


# learning rate, updates, seconds per update, crop, seconds per batch, warm-up, normalised
PUBLISHED: dict[str, tuple[float, ...]] = {
    "base_960h": (5e-4, 400_000, 1.6 * 3600, 15.6, 1_400_000 / 16_000, 0.08, False),
    "large_960h": (3e-4, 250_000, 2.7 * 3600, 20.0, 1_200_000 / 16_000, 0.08, False),
    "large_lv60k": (3e-4, 600_000, 2.7 * 3600, 20.0, 1_200_000 / 16_000, 0.08, True),
    "xls_r_300m": (3e-4, 1_000_000, 4.3 * 3600, 20.0, 2_000_000 / 16_000, 0.032, True),
    "xls_r_1b": (3e-4, 1_000_000, 512 * 25.0, 20.0, 800_000 / 16_000, 0.032, True),
    "xls_r_2b": (3e-4, 1_000_000, 512 * 20.0, 20.0, 640_000 / 16_000, 0.032, True),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_pretraining_is_the_papers(name: str) -> None:
    run = read(name)
    found = (run.optimizer.learning_rate, run.run.updates, run.data.seconds_per_update, run.data.max_seconds)
    assert (*found, run.data.seconds_per_batch, run.schedule.warmup, run.data.normalize) == pytest.approx(
        PUBLISHED[name]
    )
    assert (run.optimizer.betas, run.optimizer.epsilon, run.optimizer.weight_decay) == ((0.9, 0.98), 1e-6, 0.01)
    assert (run.schedule.kind, run.schedule.power, run.schedule.final_scale) == ("polynomial", 1.0, 0.0)
    assert run.data.min_seconds == 32_000 / 16_000
    assert run.optimizer.clip_norm is None


def test_the_ancestors_are_trained_as_published() -> None:
    """arXiv 1904.05862 and the two commands of fairseq's README, typed by hand: rates, updates, samples, GPUs."""
    for name, rate, lowest, warmup, seconds, held in (
        ("wav2vec_2019", 5e-3, 1e-6, 500, 2 * 556, 1_500_000),
        ("vq_wav2vec", 1e-5, 1e-9, 1000, 16 * 300_000 / 16_000, 300_000),
    ):
        run = read(name)
        schedule = run.schedule
        assert (run.optimizer.learning_rate, run.run.updates, schedule.kind) == (rate, 400_000, "cosine")
        assert schedule.warmup * run.run.updates == pytest.approx(warmup)
        assert schedule.initial_scale * rate == pytest.approx(1e-7) and schedule.final_scale * rate == pytest.approx(
            lowest
        )
        assert (run.data.seconds_per_update, run.data.seconds_per_batch) == (seconds, held / 16_000)
        assert run.data.max_seconds == 150_000 / 16_000 and not run.data.normalize
        assert run.optimizer.betas == (0.9, 0.999) and run.optimizer.weight_decay == 0
        config = cast(Any, preset_config(str(run.model.preset), run.model.config))
        assert (config.num_prediction_steps, config.num_negatives, config.balanced_classes) == (12, 10, False)
        assert list(config.context_kernel) == list(range(2, 14)) and set(config.context_dim) == {512}
    assert (config.quantizer, config.num_codevector_groups, config.num_codevectors_per_group) == ("gumbel", 2, 320)
    assert (config.gumbel_temperature_start, config.gumbel_temperature_end, config.gumbel_temperature_decay) == (
        (2.0, 0.5, 0.999995)
    )


# blocks, width, feed-forward, heads, dropout, LayerDrop, gradient scale, penalty, codebook entry, temperature, norm
MODELS: dict[str, tuple[Any, ...]] = {
    "base_960h": (12, 768, 3072, 12, 0.1, 0.05, 0.1, 10.0, 128, 0.5, "group"),
    "large_960h": (24, 1024, 4096, 16, 0.1, 0.2, 0.1, 10.0, 384, 0.1, "group"),
    "large_lv60k": (24, 1024, 4096, 16, 0.0, 0.0, 1.0, 0.0, 384, 0.1, "layer"),
    "xls_r_300m": (24, 1024, 4096, 16, 0.0, 0.0, 1.0, 0.0, 384, 0.1, "layer"),
    "xls_r_1b": (48, 1280, 5120, 16, 0.0, 0.0, 1.0, 0.0, 512, 0.1, "layer"),
    "xls_r_2b": (48, 1920, 7680, 16, 0.0, 0.0, 1.0, 0.0, 512, 0.1, "layer"),
    "omniasr_3b": (60, 2048, 8192, 16, 0.0, 0.0, 1.0, 0.0, 512, 0.1, "layer"),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_models_are_the_papers(name: str) -> None:
    section = read(name).model
    config = cast(Any, preset_config(section.preset, section.config))
    assert (
        config.num_hidden_layers,
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads,
        config.hidden_dropout,
        config.layerdrop,
        config.feature_grad_mult,
        config.feature_penalty_weight,
        config.codevector_dim // config.num_codevector_groups,
        config.gumbel_temperature_end,
        config.feat_extract_norm,
    ) == MODELS[name]
    assert (
        config.hidden_dropout == config.attention_dropout == config.feat_proj_dropout == config.feat_quantizer_dropout
    )
    assert config.do_stable_layer_norm == config.conv_bias == (config.feat_extract_norm == "layer")
    assert (config.num_codevector_groups, config.num_codevectors_per_group, config.num_negatives) == (2, 320, 100)
    assert (config.mask_time_prob, config.mask_time_length, config.mask_time_min_masks) == (0.65, 10, 2)
    assert (config.contrastive_logits_temperature, config.diversity_loss_weight) == (0.1, 0.1)
    assert config.activation_dropout == 0.0
    assert (config.gumbel_temperature_start, config.gumbel_temperature_decay) == (2.0, 0.999995)
    assert config.to_dict() == getattr(presets, section.preset)().to_dict()


def test_going_on_from_base_is_base_with_the_temperature_at_its_floor() -> None:
    """What the checkpoint's own configuration may say otherwise is that of pretraining BASE."""
    section = read("continue_from_checkpoint").model
    assert (section.preset, section.checkpoint) == (None, "facebook/wav2vec2-base")
    config = preset_config("base", section.config)
    assert config.gumbel_temperature(config.pretraining_updates) == 0.5
    assert config.to_dict() == presets.base(pretraining_updates=400_000).to_dict()


# learning rate, updates, time mask, channel mask, LayerDrop, frozen updates, GPUs x accumulation (fairseq's yaml files)
FINETUNED: dict[str, tuple[float, ...]] = {
    "ctc_base_10m": (5e-5, 13_000, 0.65, 0.25, 0.1, 10_000, 2 * 4),
    "ctc_base_1h": (5e-5, 13_000, 0.65, 0.25, 0.1, 10_000, 2 * 4),
    "ctc_base_10h": (5e-5, 20_000, 0.65, 0.5, 0.05, 10_000, 2 * 4),
    "ctc_base_100h": (3e-5, 80_000, 0.65, 0.5, 0.1, 0, 2 * 4),
    "ctc_base_960h": (1e-4, 320_000, 0.5, 0.1, 0.1, 0, 8),
    "ctc_large_10m": (1e-4, 13_000, 0.65, 0.25, 0.1, 10_000, 4 * 5),
    "ctc_large_1h": (3e-4, 13_000, 0.75, 0.25, 0.1, 10_000, 4 * 5),
    "ctc_large_10h": (1e-4, 20_000, 0.75, 0.25, 0.1, 10_000, 4 * 5),
    "ctc_large_100h": (3e-5, 80_000, 0.5, 0.5, 0.1, 10_000, 4 * 5),
    "ctc_large_960h": (3e-5, 320_000, 0.5, 0.25, 0.1, 10_000, 24),
    "ctc_xls_r_new_language": (1e-4, 13_000, 0.75, 0.25, 0.1, 10_000, 4 * 5),
}


@pytest.mark.parametrize("name", FINETUNED)
def test_fine_tuning_is_the_published(name: str) -> None:
    rate, updates, time, channels, layerdrop, frozen, batches = FINETUNED[name]
    run = read(name)
    samples = 3_200_000 if "base" in name else 1_280_000
    assert (run.optimizer.learning_rate, run.run.updates, run.tuning.freeze_updates) == (rate, updates, frozen)
    config = run.model.config
    assert (config["mask_time_prob"], config["mask_feature_prob"], config["layerdrop"]) == (time, channels, layerdrop)
    assert run.data.seconds_per_batch == samples / 16_000
    assert run.data.seconds_per_update == batches * samples / 16_000
    assert run.data.normalize == ("base" not in name)
    zero = ("hidden_dropout", "attention_dropout", "feat_proj_dropout", "final_dropout", "feature_grad_mult")
    assert [config[key] for key in zero] == [0.0] * 5
    assert (config["activation_dropout"], config["mask_time_length"], config["mask_feature_length"]) == (0.1, 10, 64)
    assert (run.optimizer.betas, run.optimizer.epsilon, run.optimizer.weight_decay) == ((0.9, 0.98), 1e-8, 0.0)
    schedule = run.schedule
    assert (schedule.kind, schedule.warmup, schedule.hold) == ("tri_stage", 0.1, 0.4)
    assert (schedule.initial_scale, schedule.final_scale) == (0.01, 0.05)


def test_the_small_model_is_small() -> None:
    """Sixteen clips of four seconds, at most three million parameters."""
    run = read("tiny_cpu")
    assert (run.data.seconds_per_update, run.data.max_seconds, run.data.min_seconds) == (64, 4, 1)
    assert (run.optimizer.learning_rate, run.schedule.warmup, run.data.normalize) == (5e-4, 0.1, True)
    assert run.run.updates >= 1500
    assert preset_config(str(run.model.preset), run.model.config).hidden_size == 192


def test_minutes_of_labels_train_a_head_over_the_small_model_as_it_is() -> None:
    """Its audio is prepared as the checkpoint's own, and the model can be made."""
    run = read("ctc_small_minutes")
    folder = located(run.model.checkpoint)
    assert run.data.normalize == Wav2Vec2FeatureExtractor.from_pretrained(folder).do_normalize
    assert (run.tuning.freeze_updates, run.tuning.keep_features, run.text.judged_by) == (None, "memory", "cer")
    assert {value for name, value in run.model.config.items() if "drop" in name} == {0.0}
    config = Wav2Vec2Config.from_pretrained(folder, vocab_size=30, pad_token_id=0, **run.model.config)
    model = Wav2Vec2ForCTC(config)
    assert (len(model.wav2vec2.encoder.layers), model.config.masks_at_head) == (4, True)


def test_keywords_are_learnt_as_superb_has_it() -> None:
    """arXiv 2105.01051 and S3PRL's downstream task: a held model, all layers, projector, mean, Adam, batches of 32."""
    run = read("superb_ks")
    assert (run.task, run.model.checkpoint, run.data.normalize) == ("clips", "facebook/wav2vec2-base", False)
    config = run.model.config
    assert (config["use_weighted_layer_sum"], config["classifier_proj_size"]) == (True, 256)
    drawn = ("mask_time_prob", "mask_feature_prob", "layerdrop", "hidden_dropout", "attention_dropout")
    assert [config[name] for name in (*drawn, "activation_dropout", "feat_proj_dropout")] == [0.0] * 7
    assert (run.optimizer.learning_rate, run.run.updates, run.data.seconds_per_update) == (1e-4, 200_000, 32)
    assert (run.optimizer.betas, run.optimizer.epsilon, run.optimizer.weight_decay) == ((0.9, 0.999), 1e-8, 0.0)
    assert (run.schedule.kind, run.schedule.warmup, run.optimizer.clip_norm) == ("constant", 0.0, None)
    assert run.tuning.freeze_updates is None


def test_slots_are_learnt_as_superb_has_them() -> None:
    """S3PRL: the intents as keywords, judged every 4,000 updates; the slots of sentences with CTC over characters and
    marks, two recurrent layers of 1024 in each direction, Adam 1e-4, 200,000 updates, judged every 2,000."""
    intents, keywords, sentences = read("superb_ic"), read("superb_ks"), read("superb_sf")
    assert (intents.task, intents.model, intents.optimizer) == ("slots", keywords.model, keywords.optimizer)
    assert (intents.run.updates, intents.run.evaluate_every) == (200_000, 4000)
    assert intents.data.seconds_per_update == pytest.approx(32 * 14.7 * 3600 / 23_132, abs=0.3)
    config = sentences.model.config
    names = ("ctc_head", "ctc_head_size", "ctc_head_layers", "ctc_head_dropout", "ctc_head_stride")
    assert [config[name] for name in names] == ["recurrent", 1024, 2, 0.2, 1]
    assert (sentences.text.slots, sentences.text.judged_by) == (True, "slot_error")
    assert (sentences.optimizer.learning_rate, sentences.optimizer.clip_norm) == (1e-4, 1.0)
    assert (sentences.run.updates, sentences.run.evaluate_every) == (200_000, 2000)
    assert intents.tuning.freeze_updates is sentences.tuning.freeze_updates is None


def test_few_labelled_slots_keep_what_the_small_model_hears() -> None:
    run = read("slots_small_minutes")
    folder = located(run.model.checkpoint)
    assert run.data.normalize == Wav2Vec2FeatureExtractor.from_pretrained(folder).do_normalize
    assert reason_against_encoder(run, Wav2Vec2Config.from_pretrained(folder, **run.model.config)) is None
    assert (run.task, run.tuning.keep_features) == ("slots", "memory")


def test_minutes_of_labels_keep_all_layers_of_the_small_model() -> None:
    """Nothing is drawn below the head, so that what is held is computed once."""
    run = read("labels_small_minutes")
    folder = located(run.model.checkpoint)
    assert run.data.normalize == Wav2Vec2FeatureExtractor.from_pretrained(folder).do_normalize
    config = Wav2Vec2Config.from_pretrained(folder, **run.model.config)
    assert reason_against_encoder(run, config) is None
    assert (config.use_weighted_layer_sum, run.tuning.keep_features) == (True, "memory")


def test_the_paper_has_no_warm_start_and_its_own_codebooks() -> None:
    for name in PRETRAINING[:6]:
        assert (read(name).warm_start.updates, read(name).centred_codebooks) == (0, False), name


@pytest.mark.parametrize(("name", "seconds", "cool"), [("small_minutes", 1200, 0.7), ("small_cpu", 96, 1.0)])
def test_the_model_of_minutes_is_as_measured(name: str, seconds: float, cool: float) -> None:
    """A warm start, 1e-3 in a straight line to 0, weights of 0.5 and 1, a temperature that falls to 0.5 by then."""
    run = read(name)
    assert (run.model.preset, run.centred_codebooks, run.warm_start.learning_rate) == ("small", True, 2e-3)
    assert (run.optimizer.learning_rate, run.schedule.kind, run.schedule.final_scale) == (1e-3, "polynomial", 0.0)
    assert (run.data.seconds_per_update, run.data.max_seconds, run.data.normalize) == (seconds, 10, True)
    config = cast(Any, preset_config(str(run.model.preset), run.model.config))
    assert (config.diversity_loss_weight, config.feature_penalty_weight, config.feature_grad_mult) == (0.5, 1.0, 0.1)
    assert (config.initializer_range, config.do_stable_layer_norm, config.feat_extract_norm) == (0.03, True, "group")
    cooled = round(cool * (run.run.updates - run.warm_start.updates))
    assert config.gumbel_temperature(0) == 2.0
    assert config.gumbel_temperature(cooled) == pytest.approx(0.5, rel=0.01)
    assert config.gumbel_temperature(cooled // 2) == pytest.approx(1.0, rel=0.01)


def test_a_recogniser_learns_to_stream_and_keeps_what_it_can_do() -> None:
    """Half of the updates in chunks that `StreamingRecogniser` has at latencies of 0.48 to 3.84 s; no new head."""
    run = read("ctc_streaming")
    assert (run.model.checkpoint, run.data.normalize) == ("facebook/wav2vec2-base-960h", True)
    assert (run.tuning.freeze_updates, run.tuning.method, run.optimizer.learning_rate) == (0, "full", 3e-5)
    assert (run.streaming.share, run.streaming.chunk_seconds, run.streaming.right_chunks) == (0.5, (0.16, 1.28), 2.0)
    held = run.data.seconds_per_batch * (1 + run.streaming.right_chunks)  # with copies
    assert held <= 1.2 * read("ctc_base_100h").data.seconds_per_batch


def test_adapters_need_a_language() -> None:
    with pytest.raises(RunConfigError, match=r"tuning\.language=null: must name the language of the adapter"):
        read_run(FinetuneRun, "ctc_mms_new_language", ["data.train.0.path=a"])
    assert read("ctc_mms_new_language").tuning.method == "adapter"
