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
    for_ctc = architecture.endswith("ForCTC")
    stock = _STOCK_CTC if architecture.startswith("Wav2Vec2") else _NOT_STOCK_MODEL
    for_text = (_OWN_CTC, _NOT_STOCK_CTC if recurrent_head else stock)
    blocks = for_text if for_ctc else (_OWN_FEATURES, _STOCK_FEATURES)
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
