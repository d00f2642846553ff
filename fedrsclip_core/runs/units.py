"""Figures with their units, for a person."""


def duration(seconds: float) -> str:
    """Return seconds as a short duration."""
    if seconds < 90:
        return f"{max(0.0, seconds):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} d"


def size(count: float) -> str:
    """Return a number of bytes, in units of 1000."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def percent(fraction: float | None) -> str:
    """Return a fraction in per cent without the sign; ``-`` if it is not known."""
    return "-" if fraction is None else f"{100 * fraction:.1f}"


def counted(number: int, unit: str) -> str:
    """Return a number with its unit, in the plural where that is due."""
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"
