"""The model that a fine-tuning run starts from: pretrained weights with a head for its tokens, or fresh ones."""

import math
from typing import Any

import torch

from wav2vec2.modeling.for_ctc import Wav2Vec2ForCTC
from wav2vec2.processing.feature_extractor import Wav2Vec2FeatureExtractor
from wav2vec2.processing.tokenizer_files import find_file
from wav2vec2.training.chosen_checkpoint import checkpoint_config, layout_notes, load_under_new_head
from wav2vec2.training.settings.model_choice import preset_config
from wav2vec2.training.settings.random_seeds import seed_of
from wav2vec2.training.settings.run_config import FinetuneModelSection

_HEAD = "lm_head"
#: The share of blank frames that a new head begins with.
_BLANKS = 0.7
_FEATURES_FILE = "preprocessor_config.json"


def make_ctc_model(
    section: FinetuneModelSection, tokenizer: Any, seed: int, attention: str | None = None, keep_head: bool = False
) -> tuple[Wav2Vec2ForCTC, list[str]]:
    """A model in float32 with one logit for each token, and what is to be said of it.

    A new head follows from the run's seed alone. Convolutions that get no gradient (`feature_grad_mult` 0, as the
    paper fine-tunes) are frozen, so that no decay moves them either.
    """
    options: dict[str, Any] = {} if attention is None else {"attn_implementation": attention}
    if section.checkpoint is None:
        model, notes = _fresh(section, tokenizer, options)
        keep_head = False
    else:
        model, notes = _from_checkpoint(section, tokenizer, options, keep_head)
    if not keep_head:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_of("head", seed))
            start_head_afresh(model)
    if model.config.feature_grad_mult == 0:
        model.freeze_feature_encoder()
        notes.append("the convolutional encoder is not trained")
    return model, notes


def start_head_afresh(model: Wav2Vec2ForCTC) -> None:
    """Small random weights, and a bias that makes seven frames in ten blank, as trained models have them.

    Without the bias CTC runs begin with hundreds of updates in which the model finds the blank and writes nothing else,
    or, where frames have much in common, fills them with letters and stays there; with it letters come after some
    eighty. Weights of zero do not help: through them nothing reaches the encoder (docs/finetuning.md).
    """
    head = model.lm_head
    torch.nn.init.normal_(head.weight, std=model.config.initializer_range)
    torch.nn.init.zeros_(head.bias)
    with torch.no_grad():
        head.bias[model.config.pad_token_id] = math.log(_BLANKS / (1 - _BLANKS) * (head.out_features - 1))


def make_extractor(section: FinetuneModelSection, normalize: bool) -> tuple[Wav2Vec2FeatureExtractor, list[str]]:
    """What turns samples into inputs: the checkpoint's, since its model knows no other; else a new one."""
    if section.checkpoint is None or find_file(section.checkpoint, _FEATURES_FILE, {}) is None:
        return Wav2Vec2FeatureExtractor(do_normalize=normalize), []
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(section.checkpoint)
    if extractor.do_normalize == normalize:
        return extractor, []
    said = "are" if extractor.do_normalize else "are not"
    return extractor, [f"waveforms {said} normalised, as the checkpoint's are, not as data.normalize says"]


def _fresh(section: FinetuneModelSection, tokenizer: Any, options: dict[str, Any]) -> tuple[Any, list[str]]:
    config = preset_config(section)
    config.vocab_size, config.pad_token_id = len(tokenizer), tokenizer.blank_id
    return Wav2Vec2ForCTC._from_config(config, **options), ["from scratch: no weight is pretrained"]


def _from_checkpoint(
    section: FinetuneModelSection, tokenizer: Any, options: dict[str, Any], keep_head: bool
) -> tuple[Any, list[str]]:
    source = section.checkpoint
    tokens = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.blank_id}
    config = checkpoint_config(section, **tokens)
    model, fresh = load_under_new_head(Wav2Vec2ForCTC, str(source), config, _HEAD, options)
    fresh += [] if keep_head else [f"{_HEAD}, the head of {len(tokenizer)} tokens"]
    start = f"starts afresh: {', '.join(fresh)}" if fresh else "nothing starts afresh: the head is kept"
    return model, [start, *layout_notes(section, config)]
