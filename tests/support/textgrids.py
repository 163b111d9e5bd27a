"""Praat's TextGrids, read back."""

import re

#: Start, end, text.
Read = list[tuple[float, float, str]]


def read_textgrid(text: str) -> tuple[float, dict[str, Read]]:
    """Tiers of a TextGrid in Praat's long format."""
    tiers: dict[str, Read] = {}
    total = float(re.findall(r"^xmax = ([\d.]+)$", text, re.M)[0])
    for part in re.split(r"^    item \[\d+\]:$", text, flags=re.M)[1:]:
        name = re.findall(r'^        name = "(.*)"$', part, re.M)[0]
        pattern = r'xmin = ([\d.]+)\n {12}xmax = ([\d.]+)\n {12}text = "((?:[^"]|"")*)"\n'
        found = re.findall(r" {8}intervals \[\d+\]:\n {12}" + pattern, part)
        assert len(found) == int(re.findall(r"intervals: size = (\d+)", part)[0])
        tiers[name] = [(float(start), float(end), text.replace('""', '"')) for start, end, text in found]
    return total, tiers
