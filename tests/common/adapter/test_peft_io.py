from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from torch import nn

from common.adapter.adapter import Adapter, tensor_name
from common.adapter.peft_io import (
    from_peft_model,
    load_into,
    load_peft_folder,
    save_peft_folder,
    to_state_dict,
)
from common.errors import AdapterError

DIGEST = "ab" * 32
TARGETS = r".*\.(q|o)"


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"q": nn.Linear(3, 5), "o": nn.Linear(5, 4)})
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.encoder["o"](torch.relu(self.encoder["q"](x)))
        output: torch.Tensor = self.head(torch.relu(x))
        return output


def network() -> Network:
    torch.manual_seed(0)
    return Network()


def adapted(seed: int = 1, **settings: Any) -> Any:
    """A model whose A and B are both random, so that every matrix shows in the output."""
    values: dict[str, Any] = {"r": 2, "lora_alpha": 4, "target_modules": TARGETS, **settings}
    model = get_peft_model(network(), LoraConfig(**values))
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter)
    return model.eval()


def answers(model: Any) -> torch.Tensor:
    with torch.no_grad():
        output: torch.Tensor = model(torch.linspace(-1, 1, 12).reshape(4, 3))
    return output


def adapter() -> Adapter:
    return from_peft_model(adapted(lora_dropout=0.25), "nano", DIGEST)


def test_a_model_s_adapter_is_read_by_name() -> None:
    model = adapted(lora_dropout=0.25)
    result = from_peft_model(model, "nano", DIGEST)
    assert result.modules == ("encoder.o", "encoder.q")
    assert (result.rank, result.alpha, result.dropout) == (2, 4.0, 0.25)
    assert (result.target_modules, result.backbone) == (TARGETS, "nano")
    expected = model.base_model.model.encoder["q"].lora_B["default"].weight.detach().numpy()
    np.testing.assert_array_equal(result.pair("encoder.q")[1], expected)


def test_names_and_matrices_are_those_of_peft() -> None:
    model = adapted()
    expected = get_peft_model_state_dict(model, save_embedding_layers=False)
    result = from_peft_model(model, "nano", DIGEST)
    assert list(result.tensors) == sorted(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(result.tensors[name], tensor.numpy())


def test_a_read_adapter_does_not_change_with_the_model() -> None:
    model = adapted()
    result = from_peft_model(model, "nano", DIGEST)
    digest = result.digest()
    with torch.no_grad():
        model.base_model.model.encoder["q"].lora_B["default"].weight.add_(1)
    assert result.digest() == digest
    state = to_state_dict(result)
    state[tensor_name("encoder.q", "A")].zero_()
    assert result.digest() == digest


def test_loading_replaces_every_matrix() -> None:
    source, target = adapted(seed=1), adapted(seed=2)
    assert not torch.equal(answers(source), answers(target))
    load_into(from_peft_model(source, "nano", DIGEST), target)
    assert torch.equal(answers(source), answers(target))
    assert from_peft_model(target, "nano", DIGEST) == from_peft_model(source, "nano", DIGEST)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r": 3}, "the adapter has rank 2, the model was made with 3"),
        ({"lora_alpha": 8}, "the adapter has alpha 4, the model was made with 8"),
        ({"target_modules": ".*q"}, r"the adapter has .*encoder\.o.*, the model has not"),
        ({"target_modules": ".*(q|o|head)"}, r"the model has .*head.*, the adapter has not"),
    ],
)
def test_an_adapter_that_does_not_fit_changes_nothing(
    settings: dict[str, Any], message: str
) -> None:
    model = adapted(seed=2, **settings)
    before = answers(model)
    with pytest.raises(AdapterError, match=message):
        load_into(adapter(), model)
    assert torch.equal(answers(model), before)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"use_rslora": True}, "use_rslora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["head"]}, "modules_to_save"),
        ({"rank_pattern": {"o": 1}}, "rank_pattern"),
        ({"alpha_pattern": {"o": 1}}, "alpha_pattern"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
    ],
)
def test_other_than_plain_lora_is_refused(settings: dict[str, Any], key: str) -> None:
    model = get_peft_model(network(), LoraConfig(r=2, target_modules=TARGETS, **settings))
    with pytest.raises(AdapterError, match=f"{key} = .*only plain LoRA"):
        from_peft_model(model, "nano", DIGEST)


def test_a_list_of_targets_becomes_the_same_choice_as_a_pattern(tmp_path: Path) -> None:
    model = adapted(target_modules=["q", "o"])
    result = from_peft_model(model, "nano", DIGEST)
    assert result.target_modules == r"(.*\.)?(o|q)"
    save_peft_folder(result, tmp_path / "folder")
    loaded = PeftModel.from_pretrained(network(), str(tmp_path / "folder")).eval()
    assert torch.equal(answers(loaded), answers(model))


def test_the_folder_is_bit_exact_and_peft_loads_it_without_a_warning(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    save_peft_folder(adapter(), folder, model_card="---\nlicense: x\n---\n# Ä card\n")
    assert load_peft_folder(folder) == adapter()
    assert (folder / "README.md").read_bytes().decode().endswith("# Ä card\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = PeftModel.from_pretrained(network(), str(folder)).eval()
    assert torch.equal(answers(loaded), answers(adapted()))
    assert not torch.equal(answers(loaded), answers(network()))
    config: Any = loaded.peft_config["default"]
    assert (config.lora_dropout, config.base_model_name_or_path) == (0.25, "nano")


def test_peft_s_own_folder_is_read_and_holds_the_same_bytes(tmp_path: Path) -> None:
    model = adapted(lora_dropout=0.25)
    model.save_pretrained(str(tmp_path / "peft"))
    with pytest.raises(AdapterError, match="does not contain its backbone's name"):
        load_peft_folder(tmp_path / "peft")
    with pytest.raises(AdapterError, match="does not contain its backbone's digest"):
        load_peft_folder(tmp_path / "peft", backbone="nano")
    result = load_peft_folder(tmp_path / "peft", backbone="nano", backbone_digest=DIGEST)
    assert result == adapter()
    save_peft_folder(result, tmp_path / "ours")
    weights = [tmp_path / name / "adapter_model.safetensors" for name in ("peft", "ours")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    configs = [
        json.loads((tmp_path / name / "adapter_config.json").read_bytes())
        for name in ("peft", "ours")
    ]
    named = {"auto_mapping", "base_model_name_or_path"}  # PEFT knows the class, we the name
    for key in configs[1].keys() - named:
        assert configs[1][key] == configs[0][key], key


def test_half_precision_on_disk_is_widened_exactly(tmp_path: Path) -> None:
    model = adapted()
    halves = {name: tensor.half() for name, tensor in model.state_dict().items()}
    model.save_pretrained(str(tmp_path / "half"), state_dict=halves)
    result = load_peft_folder(tmp_path / "half", backbone="nano", backbone_digest=DIGEST)
    a = adapter().pair("encoder.q")[0]
    np.testing.assert_array_equal(result.pair("encoder.q")[0], a.astype(np.float16))


def test_saving_twice_gives_the_same_bytes_and_replaces_the_folder(tmp_path: Path) -> None:
    contents = []
    for name in ("first", "second", "second"):
        save_peft_folder(adapter(), tmp_path / name)
        contents.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1] == contents[2]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the run folder should be")
    with pytest.raises(AdapterError, match=r"run/adapter cannot be written: .*exists"):
        save_peft_folder(adapter(), tmp_path / "run" / "adapter")


def test_a_folder_of_another_backbone_is_refused(tmp_path: Path) -> None:
    save_peft_folder(adapter(), tmp_path / "adapter")
    with pytest.raises(AdapterError, match="was trained on the backbone abababababab, expected c"):
        load_peft_folder(tmp_path / "adapter", backbone_digest="c" * 64)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("adapter_config.json", None, "there is no .*adapter_config.json"),
        ("adapter_config.json", b"{", "cannot be read as JSON"),
        ("adapter_config.json", b"[1]", "holds list"),
        ("adapter_config.json", b"[" * 100_000, "cannot be read as JSON"),
        ("adapter_config.json", b'{"peft_type": "IA3"}', "peft_type = 'IA3'"),
        ("adapter_config.json", b'{"peft_type": "LORA"}', "target_modules"),
        ("adapter_model.safetensors", None, "never a pickle"),
        ("adapter_model.safetensors", b"\x80\x04.", "cannot be read"),
        ("adapter_model.safetensors", b"\xff" * 64, "cannot be read"),
        ("fedvitals.json", b'{"backbone_digest": [1]}', "digest"),
    ],
)
def test_a_damaged_folder_is_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    save_peft_folder(adapter(), tmp_path / "adapter")
    path = tmp_path / "adapter" / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(AdapterError, match=message):
        load_peft_folder(tmp_path / "adapter")


@pytest.mark.slow
def test_chronos_bolt_forecasts_the_same_after_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    # get_peft_model asks for the input embedding, which Bolt does not name by itself.
    monkeypatch.setattr(
        ChronosBoltModelForForecasting, "_input_embed_layer", "shared", raising=False
    )
    quantiles = [level / 10 for level in range(1, 10)]
    settings: dict[str, Any] = {
        "d_model": 16, "d_ff": 32, "d_kv": 4, "num_heads": 4, "num_layers": 1,
        "num_decoder_layers": 1, "vocab_size": 2, "pad_token_id": 0, "eos_token_id": 1,
        "decoder_start_token_id": 0, "is_encoder_decoder": True,
        "chronos_config": {
            "context_length": 32, "prediction_length": 8, "input_patch_size": 4,
            "input_patch_stride": 4, "quantiles": quantiles, "use_reg_token": True,
        },
    }  # fmt: skip

    def backbone() -> nn.Module:
        torch.manual_seed(0)
        model: nn.Module = ChronosBoltModelForForecasting(T5Config(**settings))
        return model.eval()

    def forecast(model: Any) -> torch.Tensor:
        with torch.no_grad():
            context = torch.arange(64, dtype=torch.float32).reshape(2, 32).sin()
            output: torch.Tensor = model(context=context).quantile_preds
        return output

    targets = (
        r".*(encoder.*SelfAttention\.(q|k|v|o)"
        r"|decoder.*(SelfAttention\.(v|o)|EncDecAttention\.(q|k|v|o)))"
    )
    model = get_peft_model(backbone(), LoraConfig(r=4, lora_alpha=8, target_modules=targets)).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    trained = from_peft_model(model, "tiny", DIGEST)
    assert len(trained.modules) == 4 + 2 + 4
    save_peft_folder(trained, tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(backbone(), str(tmp_path / "adapter")).eval()
    assert torch.equal(forecast(loaded), forecast(model))
    assert not torch.equal(forecast(loaded), forecast(backbone()))
    assert (
        from_peft_model(loaded, "tiny", DIGEST) == trained == load_peft_folder(tmp_path / "adapter")
    )
