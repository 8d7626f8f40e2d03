"""What a kept log holds: accuracy by family of a direct answer, one chain, a vote of 8, and any of 8.

python benchmarks/log_summary.py pocket
"""

from __future__ import annotations

import argparse

import polars as pl

from rheostat.data.logs import kept_log
from rheostat.data.samples import read_samples
from rheostat.data.schema import Action
from rheostat.training.outcomes import OutcomeTable
from rheostat.training.replay import replay

COLUMNS = ("direct@64", "cot@256", "self_consistency(k=8)@1536", "best_of_n(by=verifier,n=8)@1536")


def summary(table: OutcomeTable, model: str) -> pl.DataFrame:
    """One row a family: mean expected reward of each way of asking `model`."""
    actions = [f"{model}/{column}" for column in COLUMNS]
    rewards = table.only(actions).reward
    frame = pl.DataFrame({"family": [name.split("/")[-1] for name in table.datasets]}).with_columns(
        [pl.Series(column.split("@")[0], rewards[:, i]) for i, column in enumerate(COLUMNS)]
    )
    families = frame.group_by("family").mean().sort("family")
    return pl.concat([families, frame.mean().with_columns(family=pl.lit("all")).select(families.columns)])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", nargs="?", default="pocket")
    frame = read_samples(kept_log(parser.parse_args().log))
    models = frame["model"].unique(maintain_order=True).to_list()
    table = replay(frame, [Action.parse(f"{model}/{column}") for model in models for column in COLUMNS])
    tokens = frame.group_by("model", "strategy", "temperature").agg(pl.len().alias("samples"), pl.col("completion_tokens").mean().round(1))
    with pl.Config(
        tbl_rows=-1, tbl_formatting="MARKDOWN", tbl_hide_column_data_types=True, tbl_hide_dataframe_shape=True, float_precision=2
    ):
        print(tokens.sort("model", "strategy", "temperature"))
        for model in models:
            print(f"\n{model}\n{summary(table, model)}")


if __name__ == "__main__":
    main()
