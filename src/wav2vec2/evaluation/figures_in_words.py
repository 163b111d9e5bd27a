"""Figures as people read them, the same on cards, pages and the command line."""


def percent(rate: float, signed: bool = False) -> str:
    """A rate as it is printed everywhere.

    >>> percent(0.036538), percent(-0.01, signed=True)
    ('3.65 %', '-1.00 %')
    """
    return f"{rate:+.2%}".replace("%", " %") if signed else f"{rate:.2%}".replace("%", " %")


def length(hours: float) -> str:
    """Hours, or minutes of less than one.

    >>> length(5.4), length(0.02)
    ('5.40 hours', '1.2 minutes')
    """
    return f"{hours:.2f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"


def times_as_fast(real_time_factor: float) -> str:
    """How many seconds of speech a second of computing recognises, in two digits; a factor says it upside down.

    >>> times_as_fast(0.0773), times_as_fast(0.0017), times_as_fast(1.9)
    ('13', '590', '0.53')
    """
    return f"{float(f'{1 / real_time_factor:.2g}'):.10g}" if real_time_factor else "not measured"


def setting_text(value: object) -> str:
    """A setting without the noise of binary fractions.

    >>> setting_text(0.1 + 0.2), setting_text(12.0), setting_text("greedy"), setting_text(3)
    ('0.3', '12.0', 'greedy', '3')
    """
    return str(round(value, 6)) if isinstance(value, float) else str(value)
