"""What wraps or replaces linear layers works on these models, as on any other of Transformers'."""

from pathlib import Path

import pytest
import torch
from small_models import CALM, small_config, waveforms

from wav2vec2 import Wav2Vec2ForCTC


@pytest.mark.filterwarnings("ignore")  # torchao and peft warn about torch and Transformers, not about us
def test_int8_weights(tmp_path: Path) -> None:
    """`quantization_config` gives int8 linear layers whose logits stay near; stock raises for want of embeddings."""
    torchao = pytest.importorskip("torchao", reason="torchao is not installed (pip install torchao==0.18.0)")
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    assert torchao.__version__
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(small_config("base")).eval()
    model.save_pretrained(tmp_path)
    settings = TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=["lm_head"])
    small = Wav2Vec2ForCTC.from_pretrained(tmp_path, quantization_config=settings)
    assert type(small.wav2vec2.encoder.layers[0].attention.q_proj.weight).__name__ == "Int8Tensor"
    audio, mask = waveforms([16000, 9000, 300])
    with torch.no_grad():
        exact, rounded = model(audio, attention_mask=mask).logits, small(audio, attention_mask=mask).logits
    assert 0 < (exact - rounded).abs().max() < 0.05 * exact.abs().max()


@pytest.mark.filterwarnings("ignore")  # as above
def test_lora_trains_saves_loads_and_merges(tmp_path: Path) -> None:
    """After a step, the saved LoRA on the base weights, and the merged model, give the trained logits."""
    from peft import LoraConfig, PeftModel, get_peft_model

    torch.manual_seed(0)
    config = small_config("base", **CALM)
    base = Wav2Vec2ForCTC(config)
    weights = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], modules_to_save=["lm_head"]))
    audio, _ = waveforms([16000, 16000])
    labels = torch.tensor([[3, 4], [5, -100]])
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):  # LoRA starts as the identity: its second step moves the first factor
        adapted(input_values=audio, labels=labels).loss.backward()
        optimizer.step()
    expected = adapted.eval()(input_values=audio).logits
    adapted.save_pretrained(tmp_path)

    fresh = Wav2Vec2ForCTC(config)
    fresh.load_state_dict(weights)
    untrained = fresh.eval()(audio).logits
    loaded = PeftModel.from_pretrained(fresh, tmp_path).eval()
    assert (untrained - expected).abs().max() > 1e-3
    torch.testing.assert_close(loaded(input_values=audio).logits, expected)
    torch.testing.assert_close(loaded.merge_and_unload()(audio).logits, expected, atol=1e-5, rtol=1e-5)
