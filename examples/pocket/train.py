"""Train a pocket model from nothing: a tiny Llama that solves the built-in problems.

    python examples/pocket/train.py --size pocket --minutes 25 --out policies/weights/pocket

Problems of the `train` split are made on the fly, so no data is kept. A run can be stopped and started again: the
state is saved every two minutes next to the output and picked up by the same command. The result is a Hugging Face
folder in bfloat16 that vLLM serves as it is.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from rheostat.data.problems import FAMILIES, problems
from rheostat.data.problems.dialogues import Dialogue, training_dialogue

SPECIAL = ["<pad>", "<bos>", "<eos>", "<user>", "<assistant>"]
CHAT_TEMPLATE = (
    "{{ '<bos>' }}{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}{{ '<assistant>' + m['content'] + '<eos>' }}"
    "{% else %}{{ '<user>' + m['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
CONTEXT = 512
WIDTH = 256  # of a packed row; longer dialogues are left out


@dataclass(frozen=True)
class Size:
    """The shape of one pocket model and how it is trained."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    matrix_rate: float
    other_rate: float


SIZES = {"pocket": Size(128, 4, 4, 352, 0.02, 4e-3), "pocket-large": Size(256, 6, 4, 704, 0.02, 3e-3)}


def make_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of 1,024 pieces with every digit on its own, learned from training dialogues."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    corpus = (" ".join(d.turns) for d in itertools.islice(dialogues(seed), 40_000))
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT, clean_up_tokenization_spaces=False,
    )  # fmt: skip


def dialogues(seed: int) -> Iterator[Dialogue]:
    """Endless training dialogues."""
    rng, source = random.Random(seed), problems("train", seed)
    for problem in source:
        neighbour = problem
        while neighbour.question == problem.question:
            neighbour = FAMILIES[problem.family](rng, problem.level)
        yield training_dialogue(problem, rng, neighbour)


def encode(tokenizer: PreTrainedTokenizerFast, dialogue: Dialogue) -> tuple[list[int], int]:
    """Token ids, and the index from which the loss counts (the last turn's first token)."""
    ids = [tokenizer.bos_token_id]
    user, assistant = tokenizer.convert_tokens_to_ids(["<user>", "<assistant>"])
    pieces = tokenizer(list(dialogue.turns), add_special_tokens=False)["input_ids"]
    start = 0
    for i, piece in enumerate(pieces):
        ids.append(assistant if i % 2 else user)
        start = len(ids)
        ids += piece + ([tokenizer.eos_token_id] if i % 2 else [])
    return ids, start


class Batch(NamedTuple):
    """Dialogues packed into rows: (rows, width) ids, labels and positions, (rows, 1, width, width) who may see whom."""

    ids: torch.Tensor
    labels: torch.Tensor
    positions: torch.Tensor
    visible: torch.Tensor


def batches(tokenizer: PreTrainedTokenizerFast, seed: int, rows: int) -> Iterator[Batch]:
    """Endless batches of dialogues of all kinds, packed without padding to speak of and blind to each other."""
    encoded = (encode(tokenizer, d) for d in dialogues(seed))
    fitting = (e for e in encoded if len(e[0]) <= WIDTH)
    waiting = next(fitting)
    causal = torch.ones(WIDTH, WIDTH, dtype=torch.bool).tril()
    while True:
        ids, labels = torch.zeros(rows, WIDTH, dtype=torch.long), torch.full((rows, WIDTH), -100)
        owner, positions = torch.full((rows, WIDTH), -1), torch.zeros(rows, WIDTH, dtype=torch.long)
        for row in range(rows):
            at = number = 0
            while at + len(waiting[0]) <= WIDTH:
                tokens, start = waiting
                end = at + len(tokens)
                ids[row, at:end] = torch.tensor(tokens)
                labels[row, at + start : end] = torch.tensor(tokens[start:])
                positions[row, at:end] = torch.arange(len(tokens))
                owner[row, at:end] = number
                at, number, waiting = end, number + 1, next(fitting)
        same = owner[:, None, :, None] == owner[:, None, None, :]
        yield Batch(ids, labels, positions, same & causal)


def make_model(size: Size, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained Llama of that size with tied embeddings."""
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=size.hidden, num_hidden_layers=size.layers, num_attention_heads=size.heads,
        num_key_value_heads=size.heads, intermediate_size=size.intermediate, max_position_embeddings=CONTEXT,
        tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, rope_theta=10_000.0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


class Optimizers:
    """Muon for the matrices, AdamW for embeddings and norms; one rate, relative to each one's peak, moves both."""

    def __init__(self, model: LlamaForCausalLM, size: Size) -> None:
        matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
        others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
        self.peaks = (size.matrix_rate, size.other_rate)
        self.parts = (
            torch.optim.Muon(matrices, lr=size.matrix_rate, weight_decay=0.0),
            torch.optim.AdamW(others, lr=size.other_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
        )

    def step(self, rate: float) -> None:
        """One update of all parameters at `rate` times their peak rates; clears the gradients."""
        for part, peak in zip(self.parts, self.peaks, strict=True):
            part.param_groups[0]["lr"] = peak * rate
            part.step()
            part.zero_grad(set_to_none=True)


def relative_rate(progress: float) -> float:
    """Warm-up over the first 1% of the run, flat to half of it, then linear to a fiftieth."""
    return min(progress / 0.01, 1.0, max(2 * (1 - progress), 0.02))


def train(args: argparse.Namespace) -> None:
    """Train for the time given, saving the state now and then; ends with the weights written to `--out`."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    size, out = SIZES[args.size], Path(args.out)
    state_file = out.parent / f".{out.name}.state.pt"
    tokenizer = make_tokenizer(args.seed) if args.start is None else AutoTokenizer.from_pretrained(args.start)
    model = make_model(size, tokenizer)
    if args.start is not None:
        model.load_state_dict(LlamaForCausalLM.from_pretrained(args.start, dtype=torch.float32).state_dict())
    optimizers = Optimizers(model, size)
    step, spent = restore(state_file, model, optimizers)
    source = batches(tokenizer, args.seed + 1000 * step, args.rows)
    body = torch.compile(model.model)  # a third faster on the CPU
    print(f"{args.size}: {sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} pieces")
    total_s = args.minutes * 60
    saved = began = time.monotonic() - spent
    with Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn()) as bar:
        task = bar.add_task(args.size, total=total_s, text="")
        while (spent := time.monotonic() - began) < total_s:
            loss = backward(model, body, next(source))
            optimizers.step(args.rate * relative_rate(spent / total_s))
            step += 1
            if step % 50 == 0:
                bar.update(task, completed=spent, text=f"step {step} loss {loss:.4f}")
                if args.log:
                    print(json.dumps({"step": step, "loss": round(loss, 4), "s": round(spent)}), flush=True)
            if time.monotonic() - saved > 120:
                saved = time.monotonic()
                save_state(state_file, model, optimizers, step, spent)
    export(model, tokenizer, out)
    state_file.unlink(missing_ok=True)


def backward(model: LlamaForCausalLM, body: Callable[..., Any], batch: Batch) -> float:
    """Gradients of one batch, clipped; returns the loss in nats a token."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = body(batch.ids, position_ids=batch.positions, attention_mask=batch.visible).last_hidden_state[:, :-1]
        targets = batch.labels[:, 1:]
        counts = targets != -100
        logits = model.lm_head(hidden[counts])
    loss = torch.nn.functional.cross_entropy(logits.float(), targets[counts])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return loss.item()


def save_state(path: Path, model: LlamaForCausalLM, optimizers: Optimizers, step: int, spent: float) -> None:
    """Write the state to a new file and put it in place whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [part.state_dict() for part in optimizers.parts]
    torch.save({"model": model.state_dict(), "optimizers": parts, "step": step, "spent": spent}, f"{path}.new")
    Path(f"{path}.new").replace(path)


def restore(path: Path, model: LlamaForCausalLM, optimizers: Optimizers) -> tuple[int, float]:
    """Load a saved state; (0, 0.0) where there is none."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for part, saved in zip(optimizers.parts, state["optimizers"], strict=True):
        part.load_state_dict(saved)
    return state["step"], state["spent"]


def export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Weights in bfloat16, tokenizer, chat template and generation settings in one folder."""
    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out)
    for how_loaded in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(how_loaded, None)
    tokenizer.save_pretrained(out)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="pocket")
    parser.add_argument("--minutes", type=float, default=25.0, help="training time; the schedule is laid over it")
    parser.add_argument("--out", required=True, help="folder for the finished model")
    parser.add_argument("--start", help="folder of a model of the same size to go on from (with another --seed: new problems)")
    parser.add_argument("--rate", type=float, default=1.0, help="learning rate relative to the size's own; less with --start")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=16, help="packed rows of 256 tokens in a batch")
    parser.add_argument("--log", action="store_true", help="also print a JSON line every 50 steps")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
