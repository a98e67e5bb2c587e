"""Writes the table of settings in docs/settings.md: `python -m scripts.settings_table`."""

from pathlib import Path

from vllm_edit.settings import SettingDescription, describe_settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
BEGIN = "<!-- settings: written by `make docs` -->\n"
END = "<!-- end of settings -->\n"


def page(text: str) -> str:
    """The page with the table of now between its two marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    head = "| flag | default | values | meaning |\n|---|---|---|---|\n"
    rows = "".join(map(_row, describe_settings()))
    return f"{before}{BEGIN}\n{head}{rows}\n{END}{after}"


def _row(setting: SettingDescription) -> str:
    default = f"`{setting.default}`" if str(setting.default) else ""
    values = ", ".join(f"`{choice}`" for choice in setting.choices) or setting.bounds
    return f"| `{setting.flag}` | {default} | {values} | {setting.sentence} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
