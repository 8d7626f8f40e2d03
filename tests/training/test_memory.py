import json

import pytest

from rheostat.data.errors import DatasetError
from rheostat.data.problems import problems
from rheostat.data.samples import samples_frame, write_samples
from rheostat.data.schema import Sample
from rheostat.training.memory import solved_examples


def test_built_in_problems_come_worked_and_from_the_side_for_training():
    built = solved_examples("pocket:addition,units", n=12, seed=3)
    train = {problem.question for problem, _ in zip(problems("train", 3), range(2000), strict=False)}
    assert len({each.question for each in built}) == 12
    assert all(each.question in train and "answer is" in each.reply for each in built)


def test_other_tasks_come_with_their_answer(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(json.dumps({"id": str(n), "question": f"What is {n}+1?", "answer": n + 1}) for n in range(3)))
    assert {each.reply for each in solved_examples(str(path), n=9)} == {f"The answer is {n + 1}." for n in range(3)}


def test_a_log_gives_each_question_once(tmp_path):
    fields = {"dataset": "d", "model": "m", "strategy": "cot", "temperature": 0.8, "answer": "1", "correct": 1.0}
    fields |= {"prompt_tokens": 1, "completion_tokens": 1, "latency_s": 0.1}
    drawn = [(q, at) for q in range(3) for at in range(4)]
    rows = [Sample(query_id=str(q), query_text=f"What is {q}+1?", gold=str(q + 1), sample_index=at, **fields) for q, at in drawn]
    write_samples(tmp_path / "log.parquet", samples_frame(rows))
    found = solved_examples(str(tmp_path / "log.parquet"), n=9)
    assert [each.question for each in found] == [f"What is {q}+1?" for q in range(3)]


def test_an_unknown_family_lists_the_known_ones():
    with pytest.raises(DatasetError, match="unknown family nothing: use some of addition"):
        solved_examples("pocket:nothing", n=5)
