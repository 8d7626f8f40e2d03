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
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

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


@dataclass(frozen=True)
class Size:
    """The shape of one pocket model and how it is trained."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    peak_learning_rate: float


SIZES = {"pocket": Size(128, 4, 4, 352, 3e-3), "pocket-large": Size(256, 6, 4, 704, 1.5e-3)}


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


def batches(tokenizer: PreTrainedTokenizerFast, seed: int, tokens: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Padded batches of about `tokens` tokens, each of dialogues of like length: (b, t) ids and labels."""
    source, rng = dialogues(seed), random.Random(seed)
    while True:
        pool = [encode(tokenizer, d) for d in itertools.islice(source, 2048)]
        pool = sorted((e for e in pool if len(e[0]) <= CONTEXT), key=lambda e: len(e[0]))
        groups: list[list[tuple[list[int], int]]] = [[]]
        for item in pool:
            if groups[-1] and (len(groups[-1]) + 1) * len(item[0]) > tokens:
                groups.append([])
            groups[-1].append(item)
        rng.shuffle(groups)
        for group in groups:
            yield collate(group, int(tokenizer.pad_token_id))


def collate(group: list[tuple[list[int], int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad on the right; labels are -100 wherever the loss does not count."""
    width = max(len(ids) for ids, _ in group)
    x = torch.full((len(group), width), pad)
    y = torch.full((len(group), width), -100)
    for row, (ids, start) in enumerate(group):
        x[row, : len(ids)] = torch.tensor(ids)
        y[row, start : len(ids)] = torch.tensor(ids[start:])
    return x, y


def make_model(size: Size, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained Llama of that size with tied embeddings."""
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=size.hidden, num_hidden_layers=size.layers, num_attention_heads=size.heads,
        num_key_value_heads=size.heads, intermediate_size=size.intermediate, max_position_embeddings=CONTEXT,
        tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, rope_theta=10_000.0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def learning_rate(progress: float, peak: float) -> float:
    """Linear warm-up over the first 2% of the run, then cosine to a twentieth of the peak."""
    if progress < 0.02:
        return peak * progress / 0.02
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (progress - 0.02) / 0.98)))


def train(args: argparse.Namespace) -> None:
    """Train for the time given, saving the state now and then; ends with the weights written to `--out`."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    size, out = SIZES[args.size], Path(args.out)
    state_file = out.parent / f".{out.name}.state.pt"
    tokenizer = make_tokenizer(args.seed)
    model = make_model(size, tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=size.peak_learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    step, spent = restore(state_file, model, optimizer)
    body = torch.compile(model.model, dynamic=True)  # a third faster on the CPU
    source = batches(tokenizer, args.seed + 1000 * step, args.batch_tokens)
    print(f"{args.size}: {sum(p.numel() for p in model.parameters()):,} parameters, {len(tokenizer)} pieces")
    saved = began = time.monotonic() - spent
    with Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn()) as bar:
        task = bar.add_task(args.size, total=args.minutes * 60, text="")
        while (spent := time.monotonic() - began) < args.minutes * 60:
            loss = update(model, body, optimizer, next(source), learning_rate(spent / (args.minutes * 60), size.peak_learning_rate))
            step += 1
            if step % 50 == 0:
                bar.update(task, completed=spent, text=f"step {step} loss {loss:.4f}")
                if args.log:
                    print(json.dumps({"step": step, "loss": round(loss, 4), "s": round(spent)}), flush=True)
            if time.monotonic() - saved > 120:
                saved = time.monotonic()
                save_state(state_file, model, optimizer, step, spent)
    export(model, tokenizer, out)
    state_file.unlink(missing_ok=True)


Batch = tuple[torch.Tensor, torch.Tensor]


def update(model: LlamaForCausalLM, body: Callable[..., Any], optimizer: torch.optim.Optimizer, batch: Batch, rate: float) -> float:
    """One optimizer step; returns the loss in nats a token."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    x, y = batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = body(x).last_hidden_state[:, :-1]
        targets = y[:, 1:]
        counts = targets != -100
        logits = model.lm_head(hidden[counts])
    loss = torch.nn.functional.cross_entropy(logits.float(), targets[counts])
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def save_state(path: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer, step: int, spent: float) -> None:
    """Write the state to a new file and put it in place whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "spent": spent}, f"{path}.new")
    Path(f"{path}.new").replace(path)


def restore(path: Path, model: LlamaForCausalLM, optimizer: torch.optim.Optimizer) -> tuple[int, float]:
    """Load a saved state; (0, 0.0) where there is none."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["spent"]


def export(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Weights in bfloat16, tokenizer, chat template and generation settings in one folder."""
    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="pocket")
    parser.add_argument("--minutes", type=float, default=25.0, help="training time; the schedule is laid over it")
    parser.add_argument("--out", required=True, help="folder for the finished model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--log", action="store_true", help="also print a JSON line every 50 steps")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
