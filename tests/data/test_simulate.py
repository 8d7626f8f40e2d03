"""The simulated world: its samples must have the rates it claims."""

from __future__ import annotations

from rheostat.data.simulate import FAMILIES, World


def test_same_seed_gives_the_same_log():
    assert list(World(3).samples(5)) == list(World(3).samples(5))
    assert list(World(3).samples(5)) != list(World(4).samples(5))


def test_sample_frequencies_match_the_known_truth():
    world = World(1)
    for question in world.questions(6):
        for model in world.models:
            rows = list(world._draw(question, model, "cot", 3000))
            seen = sum(row.correct or 0.0 for row in rows) / len(rows)
            assert abs(seen - world.p_correct(question, model, "cot")) < 4 * (0.25 / 3000) ** 0.5


def test_harder_levels_are_never_easier_for_the_same_luck():
    world = World(0)
    by_family: dict[str, list[tuple[int, float]]] = {}
    for question in world.questions(300):
        bare = type(question)(question.query_id, question.family, question.level, question.text, 0.0)
        by_family.setdefault(question.family.name, []).append((question.level, world.p_correct(bare, world.models[0], "cot")))
    assert set(by_family) == {family.name for family in FAMILIES}
    for points in by_family.values():
        rates = [p for _, p in sorted(points)]
        assert rates == sorted(rates, reverse=True)


def test_unparsed_samples_have_no_answer_and_are_wrong():
    rows = [row for row in World(0, models=World(0).models[:1], unparsed=0.5).samples(20) if row.answer is None]
    assert rows
    assert all(row.correct == 0.0 and row.completion_tokens > 0 for row in rows)
