"""The code blocks of README.md from a wheel, in a fresh environment, outside of the clone.

Run: pytest tests/test_first_screen.py
"""

from pathlib import Path

from environments import install_alone, run_outside

SNIPPETS = Path(__file__).with_name("test_snippets.py")


def test_the_blocks_of_readme_run_from_a_wheel_in_a_fresh_environment(wheel, tmp_path):
    commands = install_alone(wheel, tmp_path)
    test = f"{SNIPPETS}::test_the_blocks_of_a_page_run[README.md]"
    python = str(commands / "python")
    options = ("-m", "pytest", "-p", "no:cacheprovider", test)
    printed = run_outside(python, *options, cwd=tmp_path, env={"TEST_README": "1"})
    assert "1 passed" in printed
