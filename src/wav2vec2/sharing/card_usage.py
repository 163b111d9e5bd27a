"""How to use a model: the code blocks of its card, for this package and for Transformers alone ("stock").

They run as they are, with a file `speech.wav`.
"""

from importlib.metadata import PackageNotFoundError, metadata

from wav2vec2.evaluation.provenance import versions

#: Stands for the address of the repository where the package's metadata names none.
_UNKNOWN = "<repository>"

_OWN = "With the package that wrote this card, {package} (`{install}`)"
_OWN_CTC = """{own}: files of any length, times of words{lm}.

```python
from wav2vec2 import Transcriber

transcriber = Transcriber.from_pretrained("{name}")
transcript = transcriber.transcribe("speech.wav")
print(transcript.text)
for word in transcript.words:
    print(f"{{word.start:7.2f}} {{word.end:7.2f}} {{word.text}}")
```
"""
_STOCK_CTC = """With Transformers alone (greedy search; the file has to be 16 kHz, mono):

```python
import soundfile
import torch
from transformers import AutoModelForCTC, AutoProcessor

processor = AutoProcessor.from_pretrained("{name}")
model = AutoModelForCTC.from_pretrained("{name}").eval()
samples, rate = soundfile.read("speech.wav", dtype="float32")
inputs = processor(samples, sampling_rate=rate, return_tensors="pt")
with torch.inference_mode():
    logits = model(**inputs).logits
print(processor.batch_decode(logits.argmax(-1))[0])
```
"""
_NOT_STOCK_CTC = """Transformers alone has no recurrent head (`ctc_head` in `config.json`) and refuses to load this one.
"""
_NOT_STOCK_MODEL = """Transformers alone does not know this kind of model (`model_type` in `config.json`).
"""
_OWN_LABELS = """{own}: files of any format and rate, and an answer only where the model is sure enough.

```python
from wav2vec2 import Labeller

found = Labeller.from_pretrained("{name}").label("speech.wav")
print(found.labels or "none of them", found.probabilities)
```
"""
_STOCK_LABELS = """With Transformers alone (the file has to be 16 kHz, mono; it knows no threshold):

```python
import soundfile
from transformers import pipeline

classify = pipeline("audio-classification", model="{name}")
samples, rate = soundfile.read("speech.wav", dtype="float32")
print(classify({{"raw": samples, "sampling_rate": rate}}))
```
"""
_OWN_FEATURES = """{own}, as the beginning of a recogniser or for its features:

```python
import torch
from wav2vec2 import Wav2Vec2FeatureExtractor, Wav2Vec2Model, load_audio

extractor = Wav2Vec2FeatureExtractor.from_pretrained("{name}")
model = Wav2Vec2Model.from_pretrained("{name}").eval()
inputs = extractor(load_audio("speech.wav", 16_000), sampling_rate=16_000, return_tensors="pt")
with torch.inference_mode():
    features = model(**inputs).last_hidden_state  # (1, frames of 20 ms, hidden size)
```
"""
_STOCK_FEATURES = """With Transformers alone (the file has to be 16 kHz, mono):

```python
import soundfile
import torch
from transformers import AutoFeatureExtractor, AutoModel

extractor = AutoFeatureExtractor.from_pretrained("{name}")
model = AutoModel.from_pretrained("{name}").eval()
samples, rate = soundfile.read("speech.wav", dtype="float32")
inputs = extractor(samples, sampling_rate=rate, return_tensors="pt")
with torch.inference_mode():
    features = model(**inputs).last_hidden_state
```
"""


def usage_section(architecture: str, name: str, with_decoder: bool, recurrent_head: bool = False) -> str:
    """Code for this package and for stock Transformers, for a model of that class and name; under a recurrent head, and
    for a model that is not wav2vec 2.0, for this package alone."""
    is_stock = architecture.startswith("Wav2Vec2")
    blocks = (_OWN_FEATURES, _STOCK_FEATURES)
    if architecture.endswith("ForCTC"):
        blocks = (_OWN_CTC, _NOT_STOCK_CTC if recurrent_head else _STOCK_CTC if is_stock else _NOT_STOCK_MODEL)
    elif architecture.endswith("ForSequenceClassification"):
        blocks = (_OWN_LABELS, _STOCK_LABELS if is_stock else _NOT_STOCK_MODEL)
    search = ", and beam search with the decoder that is saved here" if with_decoder else ""
    package = f"wav2vec2 {versions().get('wav2vec2', '(not installed: its version is not known)')}"
    own = _OWN.format(package=package, install=install_command())
    return "\n".join(block.format(name=name, lm=search, own=own) for block in blocks).rstrip()


def install_command() -> str:
    """From the repository. The bare name would install whatever somebody else publishes under it.

    >>> install_command().startswith("pip install git+")
    True
    """
    try:
        urls = metadata("wav2vec2").get_all("Project-URL") or []
    except PackageNotFoundError:  # run from a source folder that was never installed
        urls = []
    named = dict(url.split(", ", 1) for url in urls)
    address = next((named[label] for label in ("Repository", "Source") if label in named), _UNKNOWN)
    return f"pip install git+{address}"
