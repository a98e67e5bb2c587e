"""Writes the table of settings in docs/settings.md: `python -m scripts.settings_table`."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from vllm_edit.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
BEGIN = "<!-- settings: written by `make docs` -->\n"
END = "<!-- end of settings -->\n"


def table() -> str:
    """One row for each setting: its flag, default, allowed values and meaning."""
    rows = ["| flag | default | values | meaning |", "|---|---|---|---|"]
    for item in fields(Settings):
        flag = f"`--edit-{item.name.replace('_', '-')}`"
        default = f"`{item.default}`" if str(item.default) else ""
        cells = (flag, default, _values(item.metadata), item.metadata["help"])
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _values(metadata: Mapping[str, Any]) -> str:
    if choices := metadata.get("choices"):
        return ", ".join(f"`{choice}`" for choice in choices)
    least, most = metadata.get("least"), metadata.get("most")
    if least is None:
        return ""
    return f"{least:g} or more" if most is None else f"{least:g} to {most:g}"


def page(text: str) -> str:
    """The page with the table between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
