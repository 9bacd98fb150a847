"""Package definition; the exact versions that are tested are in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="hf_synpre",
    version="0.1.0",
    description=(
        "The benefit of pre-training without a natural corpus, for any Hugging Face transformer"
    ),
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["hf_synpre", "hf_synpre.*"]),
    package_data={
        "hf_synpre": [
            "*/templates/*.jinja",
            "*/templates/*.yaml",
            "tasks/*.npz",
            "py.typed",
            "statistics/*/*.json",
        ],
    },
    install_requires=[
        "numpy>=2.0",
        "numba>=0.61",
        "pyarrow>=21",
        "pyyaml>=6",
        "filelock>=3.12",
        "joblib>=1.4",
        "rich>=13",
        "psutil>=5.9",
        "jinja2>=3.1",
        "markdown-it-py>=3",
        "matplotlib>=3.9",
        "torch>=2.6",
        "transformers>=5.23,<6",
        "tokenizers>=0.23.1",
        "datasets>=4.5",
        "accelerate>=1.3",
        "evaluate>=0.4.6",
        "rouge-score>=0.1.2",
        "sacrebleu>=2.5",
        "peft>=0.18",
        "huggingface_hub>=1.31,<3",
        "safetensors>=0.8",
    ],
    extras_require={
        "ray": ["ray>=2.50"],
        "datatrove": ["datatrove>=0.10"],
        "track": ["trackio>=0.43"],
        "space": ["gradio>=6.31,<7"],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3",
            "hypothesis>=6",
            "ray>=2.50",
            "trackio>=0.43",
            "nbclient>=0.10",
            "ipykernel>=6.29",
            "gradio>=6.31,<7",
        ],
        "browser": ["playwright>=1.60"],
        "matrix": ["nox>=2026.10"],
        "docs": ["mkdocs-material>=9.6", "mkdocstrings[python]>=1"],
        "dev": ["ruff>=0.14", "mypy>=2", "types-PyYAML"],
    },
    entry_points={
        "console_scripts": [
            "synpre=hf_synpre.cli:main",
            "hf-synpre=hf_synpre.cli:main",  # so that `hf synpre ...` works as an extension of hf
        ]
    },
)
