"""Figures as people read them, the same on cards, pages and the command line."""


def percent(rate: float, signed: bool = False) -> str:
    """A rate as it is printed everywhere.

    >>> percent(0.036538), percent(-0.01, signed=True)
    ('3.65 %', '-1.00 %')
    """
    return f"{rate:+.2%}".replace("%", " %") if signed else f"{rate:.2%}".replace("%", " %")


def length(hours: float) -> str:
    """How much audio: hours, or minutes of less than one.

    >>> length(5.4), length(0.02)
    ('5.40 hours', '1.2 minutes')
    """
    return f"{hours:.2f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"


def duration(seconds: float) -> str:
    """Seconds in the units that one thinks in.

    >>> [duration(seconds) for seconds in (1, 47, 725, 7_200, 5_000, 100_000, 200_000)]
    ['1 second', '47 seconds', '12 minutes', '2 hours', '1 hour 23 minutes', '27 hours 47 minutes', '2 days 8 hours']
    """
    if seconds < 100:
        return _counted(round(seconds), "second")
    if seconds < 3570:
        return _counted(round(seconds / 60), "minute")
    if seconds < 48 * 3600:
        large, small, units = *divmod(round(seconds / 60), 60), ("hour", "minute")
    else:
        large, small, units = *divmod(round(seconds / 3600), 24), ("day", "hour")
    return _counted(large, units[0]) + (f" {_counted(small, units[1])}" if small else "")


def _counted(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"


def times_as_fast(real_time_factor: float) -> str:
    """How many seconds of speech a second of computing recognises, in two digits; a real-time factor is the inverse.

    >>> times_as_fast(0.0773), times_as_fast(0.0017), times_as_fast(1.9)
    ('13', '590', '0.53')
    """
    return f"{float(f'{1 / real_time_factor:.2g}'):.10g}" if real_time_factor else "not measured"


def setting_text(value: object) -> str:
    """A setting as text, without the noise of binary fractions.

    >>> setting_text(0.1 + 0.2), setting_text(12.0), setting_text("greedy"), setting_text(3)
    ('0.3', '12.0', 'greedy', '3')
    """
    return str(round(value, 6)) if isinstance(value, float) else str(value)
