"""Environments for programs that are compared."""

from benchmarks.environments import installed


def test_what_is_installed_is_not_installed_again(tmp_path):
    program = tmp_path / "litellm" / "bin" / "litellm"
    program.parent.mkdir(parents=True)
    program.touch()
    assert installed(tmp_path / "litellm", "litellm", [["litellm[proxy]"]]) == program
