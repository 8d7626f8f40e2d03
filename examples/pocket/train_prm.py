"""Train the pocket process reward model: which steps of a chain of thought are right so far.

    python examples/pocket/train_prm.py --minutes 60 --out policies/weights/pocket-prm

It starts from a finished pocket model and learns from two kinds of attempts at problems of the `train` split: worked
solutions with something spoiled, and what the pocket models themselves write at temperature 0.8. The labels are exact,
because every problem knows its own work (in place of the human labels of Lightman et al. 2023). The result is a
`LlamaForTokenClassification` folder in bfloat16 that vLLM serves with `--runner pooling`; at the end the step labels of
held-out problems are predicted and the area under the curve is printed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, track
from sklearn.metrics import roc_auc_score
from train import SIZES, Optimizers, relative_rate
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification, PreTrainedTokenizerFast

from rheostat.data.answers import extract, same
from rheostat.data.problems import Problem, Split, problems
from rheostat.data.problems.dialogues import STEP_BY_STEP
from rheostat.data.steps import split_steps
from rheostat.policies.scorers.rendering import POCKET_FORMAT

WRITE_TOKENS = 128
WRITE_ROWS = 128
IGNORED = -100


class Marked(NamedTuple):
    """An attempt: for every step, whether it and all before it are those of the right work; for the last, the answer."""

    question: str
    steps: tuple[str, ...]
    right: tuple[bool, ...]
    work: tuple[str, ...]


def mark(problem: Problem, steps: Sequence[str]) -> Marked:
    """An attempt with its exact labels."""
    work = split_steps(problem.work().text)
    right = [tuple(steps[: i + 1]) == work[: i + 1] for i in range(len(steps))]
    if right:
        right[-1] = same(extract(steps[-1], problem.kind) or "", problem.answer, problem.kind)
    return Marked(problem.question, tuple(steps), tuple(right), work)


def spoiled(problem: Problem, rng: random.Random) -> Marked:
    """A worked solution; four times in five with a slip, a changed character, or a step lost or said twice."""
    steps = list(split_steps(problem.work().text))
    at, how = rng.randrange(len(steps)), rng.random()
    if how < 0.4:
        slip = rng.randrange(max(len(steps) - 1, 1))
        steps = list(split_steps(problem.work(slip=slip, rng=rng).text))
    elif how < 0.6:
        steps[at] = change_a_character(steps[at], rng)
    elif how < 0.7 and len(steps) > 2:
        del steps[rng.randrange(len(steps) - 1)]
    elif how < 0.8 and len(steps) > 1:
        steps.insert(at, steps[rng.randrange(len(steps) - 1)])
    return mark(problem, steps)


def change_a_character(step: str, rng: random.Random) -> str:
    """A digit or lone letter replaced by another one, nothing that follows from it recomputed."""
    places = [i for i, c in enumerate(step) if c.isdigit() or (c.isalpha() and len(step[max(i - 1, 0) : i + 2].strip(" ,:;")) == 1)]
    if not places:
        return step
    at = rng.choice(places)
    return step[:at] + rng.choice("0123456789" if step[at].isdigit() else "abcdefghijklmnopqrstuvwxyz") + step[at + 1 :]


def written(folder: str, split: Split, n: int, seed: int) -> list[Marked]:
    """What a pocket model writes when it thinks step by step about `n` problems."""
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    asked = list(itertools.islice(problems(split, seed), n))
    attempts = []
    for start in track(range(0, n, WRITE_ROWS), description=f"{Path(folder).name} writes"):
        batch = asked[start : start + WRITE_ROWS]
        prompts = [f"<bos><user>{problem.question} {STEP_BY_STEP}<assistant>" for problem in batch]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False, return_token_type_ids=False)
        with torch.inference_mode():
            out = model.generate(**inputs, max_new_tokens=WRITE_TOKENS, do_sample=True, temperature=0.8, top_k=0)
        texts = tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        attempts += [mark(problem, steps) for problem, text in zip(batch, texts, strict=True) if (steps := split_steps(text))]
    return attempts


def examples(attempts: list[Marked], seed: int) -> Iterator[Marked]:
    """Endless examples: freshly spoiled work and the models' own attempts in turn."""
    rng, source = random.Random(seed), problems("train", seed)
    while True:
        yield spoiled(next(source), rng)
        if attempts:
            yield rng.choice(attempts)


class Batch(NamedTuple):
    """(rows, length) token ids, labels of the steps at the marks behind them, and labels of all tokens of the attempts."""

    ids: torch.Tensor
    steps: torch.Tensor
    tokens: torch.Tensor


def batch_of(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Marked], width: int) -> Batch:
    """A batch with exact labels; a token is right as long as the text is that of the right work.

    Steps are few, and what is wrong with one is a digit: learning from every token is what makes a short training enough.
    """
    ids = _tokens(tokenizer, rows, [row.steps for row in rows], width)
    expected = _tokens(tokenizer, rows, [row.work for row in rows], width)
    begins = torch.tensor([len(tokenizer(POCKET_FORMAT.render(row.question, ()), add_special_tokens=False)["input_ids"]) for row in rows])
    length = min(ids.shape[1], expected.shape[1])
    same_text = torch.zeros_like(ids)
    same_text[:, :length] = (ids[:, :length] == expected[:, :length]).long().cumprod(1)
    inside = (torch.arange(ids.shape[1]) >= begins[:, None]) & (ids != tokenizer.pad_token_id)
    steps = torch.full_like(ids, IGNORED)
    for i, row in enumerate(rows):
        places = (ids[i] == tokenizer.eos_token_id).nonzero()[:, 0]
        steps[i, places] = torch.tensor(row.right[: len(places)], dtype=torch.long)
    tokens = torch.where(inside & (steps == IGNORED), same_text, IGNORED)
    return Batch(ids, steps, tokens)


def _tokens(tokenizer: PreTrainedTokenizerFast, rows: Sequence[Marked], steps: Sequence[Sequence[str]], width: int) -> torch.Tensor:
    texts = [POCKET_FORMAT.render(row.question, shown) for row, shown in zip(rows, steps, strict=True)]
    return tokenizer(
        texts, add_special_tokens=False, return_tensors="pt", padding=True, padding_side="right", truncation=True, max_length=width
    )["input_ids"]


def backward(model: LlamaForTokenClassification, batch: Batch) -> float:
    """Gradients of one batch, clipped; returns the loss of the steps in nats."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(batch.ids).logits.flatten(0, 1)
    of_steps, of_tokens = (
        torch.nn.functional.cross_entropy(logits.float(), labels.flatten(), ignore_index=IGNORED) for labels in (batch.steps, batch.tokens)
    )
    (of_steps + of_tokens).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    return of_steps.item()


def make_model(start: str) -> LlamaForTokenClassification:
    """The body of a finished pocket model under a head of two classes, wrong and right."""
    config = LlamaConfig.from_pretrained(start, num_labels=2, id2label={0: "wrong", 1: "right"}, label2id={"wrong": 0, "right": 1})
    model = LlamaForTokenClassification(config).float()  # the shipped models' configuration asks for bfloat16
    model.model.load_state_dict(LlamaForCausalLM.from_pretrained(start, dtype=torch.float32).model.state_dict())
    return model


def step_auc(model: LlamaForTokenClassification, tokenizer: PreTrainedTokenizerFast, attempts: list[Marked]) -> dict[str, float]:
    """Area under the curve over all steps, and over the last ones, which say the answer."""
    scores, labels, last = [], [], []
    for start in range(0, len(attempts), 64):
        ids, wanted, _ = batch_of(tokenizer, attempts[start : start + 64], width=512)
        with torch.inference_mode():
            p_right = model(ids).logits.softmax(-1)[..., 1]
        for row, row_labels in zip(p_right, wanted, strict=True):
            places = (row_labels != IGNORED).nonzero()[:, 0]
            scores += row[places].tolist()
            labels += row_labels[places].tolist()
            last += [False] * (len(places) - 1) + [True] * min(len(places), 1)
    ends = [i for i, is_last in enumerate(last) if is_last]
    return {
        "steps": len(labels),
        "right": sum(labels) / len(labels),
        "auc": float(roc_auc_score(labels, scores)),
        "auc_answers": float(roc_auc_score([labels[i] for i in ends], [scores[i] for i in ends])),
    }


def train(args: argparse.Namespace) -> None:
    """Train for the processor time given, write the model, and say how well it tells right steps from wrong ones."""
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    tokenizer, model = AutoTokenizer.from_pretrained(args.start), make_model(args.start)
    attempts = [attempt for folder in args.writer for attempt in written(folder, "train", args.attempts, args.seed + 1)]
    source = examples(attempts, args.seed)
    optimizers = Optimizers(model, SIZES["pocket"])
    total_s, began, step = args.minutes * 60, time.process_time(), 0
    with Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"), TimeElapsedColumn()) as bar:
        task = bar.add_task("pocket-prm", total=total_s, text="")
        while (spent := time.process_time() - began) < total_s:
            loss = backward(model, batch_of(tokenizer, list(itertools.islice(source, args.rows)), args.width))
            optimizers.step(args.rate * relative_rate(spent / total_s))
            step += 1
            if step % 50 == 0:
                bar.update(task, completed=spent, text=f"step {step} loss {loss:.4f}")
                if args.log:
                    print(json.dumps({"step": step, "loss": round(loss, 4), "s": round(spent)}), flush=True)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    judge(model.float().eval(), tokenizer, args)


def judge(model: LlamaForTokenClassification, tokenizer: PreTrainedTokenizerFast, args: argparse.Namespace) -> None:
    """Print the areas under the curve on held-out problems, attempt by attempt source."""
    rng = random.Random(args.seed)
    held_out = {"spoiled work": [spoiled(problem, rng) for problem in itertools.islice(problems("heldout", args.seed), args.judged)]}
    held_out |= {Path(folder).name: written(folder, "heldout", args.judged, args.seed) for folder in args.writer}
    for name, attempts in held_out.items():
        print(json.dumps({"heldout": name, **step_auc(model, tokenizer, attempts)}), flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", default="policies/weights/pocket", help="folder of the pocket model to start from")
    parser.add_argument("--writer", action="append", help="folder of a model whose attempts to learn from; repeat")
    parser.add_argument("--attempts", type=int, default=4096, help="attempts of each writer")
    parser.add_argument("--judged", type=int, default=768, help="held-out problems in the evaluation")
    parser.add_argument("--minutes", type=float, default=60.0, help="processor time of the training; the schedule is laid over it")
    parser.add_argument("--out", required=True, help="folder for the finished model")
    parser.add_argument("--rate", type=float, default=0.4, help="learning rate relative to the pocket model's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=32, help="attempts in a batch")
    parser.add_argument("--width", type=int, default=192, help="tokens of an attempt; the end of a longer one is cut off")
    parser.add_argument("--log", action="store_true", help="also print a JSON line every 50 steps")
    args = parser.parse_args()
    args.writer = args.writer or ["policies/weights/pocket", "policies/weights/pocket-large"]
    train(args)


if __name__ == "__main__":
    main()
