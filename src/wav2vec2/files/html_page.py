"""An HTML page that needs nothing else: no network, no script. It fits a telephone, a screen and paper.

A page is a title, parts that are HTML already, and the style of what only this page has. Text is escaped by `table` and
`page`; whoever writes other parts escapes it with `html.escape`.
"""

from collections.abc import Iterable, Sequence
from html import escape

#: How every page looks. Tables too wide for the screen are scrolled inside of `.wide`; `.n` are numbers.
_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 74rem; background: #fff; color: #1f2933;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .8rem; }
.wide { overflow-x: auto; }
.caption { margin: .6rem 0 0; color: #52606d; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem 1rem .3rem 0; border-bottom: 1px solid #e6e9ed; vertical-align: top;
  overflow-wrap: break-word; }
th { font-weight: 500; color: #52606d; }
.n { text-align: right; }
td.n { white-space: nowrap; }
@page { margin: 12mm; }
@media print { body { padding: 0; font-size: 10pt; max-width: none; } }
"""


def page(title: str, parts: Iterable[str], style: str = "") -> str:
    """The whole page: the title, which is text, and the parts, which are HTML; empty ones are left out.

    >>> page("a < b", ["", "<p>one</p>"]).splitlines()[-4:]
    ['<h1>a &lt; b</h1>', '<p>one</p>', '</body>', '</html>']
    """
    body = "\n".join([f"<h1>{escape(title)}</h1>", *filter(None, parts)])
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{style}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def table(
    rows: Iterable[Sequence[str]],
    head: Sequence[str] = (),
    caption: str = "",
    numbers_from: int | None = None,
    named_rows: bool = False,
) -> str:
    """Texts as a table, under its caption and its head if it has them.

    Columns from `numbers_from` on hold numbers, which stand at the right. With `named_rows` the first cell of each row
    says what the row is, as the head says it of a column.

    >>> table([["a", "<b>"]], named_rows=True)
    '<div><div class="wide" tabindex="0"><table>\\n<tr><th>a</th><td>&lt;b&gt;</td></tr>\\n</table></div></div>'
    """

    def row(values: Sequence[str], tags: Iterable[str]) -> str:
        cells = []
        for number, (value, tag) in enumerate(zip(values, tags, strict=True)):
            kind = " class=n" if numbers_from is not None and number >= numbers_from else ""
            cells.append(f"<{tag}{kind}>{escape(value)}</{tag}>")
        return f"<tr>{''.join(cells)}</tr>"

    lines = [row(head, ["th"] * len(head))] if any(head) else []
    lines += [row(values, ["th" if named_rows else "td", *["td"] * (len(values) - 1)]) for values in rows]
    # the caption stays outside of what is scrolled, so that it wraps
    above = f'<p class="caption">{escape(caption)}</p>' if caption else ""
    return f'<div>{above}<div class="wide" tabindex="0"><table>\n' + "\n".join(lines) + "\n</table></div></div>"
