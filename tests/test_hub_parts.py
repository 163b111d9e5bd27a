"""`push_to_hub` of model, processor and decoder one by one, and language models that lie on the Hub."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_connections import connected
from loopback_hub import LoopbackHub, running_hub
from publishable_folders import decoder
from recognition_checkpoints import TOKENS, noise, processor, talkative_model

from wav2vec2 import CTCDecoder, NgramLanguageModel, Transcriber, Wav2Vec2ForCTC, Wav2Vec2Processor

NAME = "tester/parts"

# huggingface_hub 2.4 sends files by an argument that the HTTP library under it is about to rename.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with running_hub() as hub, connected(hub, tmp_path / "home"):
        yield hub


def test_model_processor_and_decoder_make_one_repository(hub: LoopbackHub) -> None:
    model, of_text, search = talkative_model(), processor(), decoder()
    model.push_to_hub(NAME, private=True)
    of_text.push_to_hub(NAME)
    search.push_to_hub(NAME)
    repository = hub.repository(NAME)
    assert repository.private
    assert repository.history()[0].title == "Upload decoder" and len(repository.history()) == 4
    served = Wav2Vec2ForCTC.from_pretrained(NAME).state_dict()
    assert served.keys() == model.state_dict().keys()
    assert all(torch.equal(served[name], tensor) for name, tensor in model.state_dict().items())
    assert Wav2Vec2Processor.from_pretrained(NAME).tokenizer.tokens == TOKENS
    found = Transcriber.from_pretrained(NAME, device="cpu").transcribe((noise(3.0), 16_000))
    expected = Transcriber(model, of_text, search).transcribe((noise(3.0), 16_000))
    assert found == expected and len(expected.words) > 3  # type: ignore[union-attr]


def test_a_branch_of_each(hub: LoopbackHub) -> None:
    for part in (talkative_model(), processor(), decoder()):
        part.push_to_hub(NAME, revision="step-10")
    repository = hub.repository(NAME)
    assert repository.at("main").files.keys() == set()
    assert {"model.safetensors", "vocab.json", "decoder.json"} < repository.at("step-10").files.keys()
    assert CTCDecoder.from_pretrained(NAME, revision="step-10").alpha == 0.4
    with pytest.raises(FileNotFoundError, match="no decoder is saved here"):
        CTCDecoder.from_pretrained(NAME)


def test_a_decoder_comes_back_as_it_went(hub: LoopbackHub) -> None:
    search = decoder()
    address = search.push_to_hub(NAME)
    assert address == f"{hub.url}/{NAME}/commit/{hub.repository(NAME).at('main').oid}"
    assert hub.repository(NAME).at("main").files.keys() == {"decoder.json", "language_model.ngrams"}
    found = CTCDecoder.from_pretrained(NAME)
    assert (found.alpha, found.beta, found.beam) == (0.4, 1.1, 20)
    log_probs = torch.randn(2, 60, len(TOKENS), generator=torch.Generator().manual_seed(3)).log_softmax(-1)
    assert found.decode(log_probs, nbest=3) == search.decode(log_probs, nbest=3)
    search.push_to_hub(NAME)
    assert len(hub.repository(NAME).history()) == 2


def test_language_models_as_others_publish_them(hub: LoopbackHub, tmp_path: Path) -> None:
    """The layout of pyctcdecode: read by the decoder, by the language model and by the transcriber, by name."""
    arpa, model = tmp_path / "3gram.arpa", decoder().language_model
    assert isinstance(model, NgramLanguageModel)
    model.to_arpa(arpa)
    files = {
        "alphabet.json": json.dumps({"labels": ["", "⁇", " ", *"abcdefgh"], "is_bpe": False}).encode(),
        "language_model/attrs.json": b'{"alpha": 0.6, "beta": 1.2, "unk_score_offset": -9.0, "score_boundary": true}',
        "language_model/unigrams.txt": b"ab\ncd\nef\ngh\n",
        "language_model/3gram.arpa": arpa.read_bytes(),
    }
    talkative_model().push_to_hub(NAME)
    processor().push_to_hub(NAME)
    present = {name: blob.content for name, blob in hub.repository(NAME).at("main").files.items()}
    hub.add(NAME, present | files)
    assert NgramLanguageModel.from_folder(NAME).vocabulary == model.vocabulary
    search = CTCDecoder.from_pretrained(NAME)
    assert (search.alpha, search.beta) == (0.6, 1.2)
    transcriber = Transcriber.from_pretrained(NAME, device="cpu")
    assert transcriber.decoder is not None and transcriber.decoder.alpha == 0.6
    fetched = [one.path for one in hub.sent("GET", "/resolve/")]
    assert len([path for path in fetched if path.endswith("3gram.arpa")]) == 1  # once for all three
    assert len([path for path in fetched if path.endswith("model.safetensors")]) == 1  # by the transcriber alone


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(hub: LoopbackHub, tmp_path: Path) -> None:
    for place in (tmp_path / "absent", "./absent", "one/two/three", "absent"):
        with pytest.raises(FileNotFoundError):
            CTCDecoder.from_pretrained(place)
    assert hub.requests == []


def test_a_private_decoder_without_a_token(hub: LoopbackHub, tmp_path: Path) -> None:
    decoder().push_to_hub(NAME, private=True)
    with connected(hub, tmp_path / "other", token=None), pytest.raises(OSError, match="401"):
        CTCDecoder.from_pretrained(NAME)
