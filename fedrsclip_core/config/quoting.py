"""Texts inside overrides."""


def quote(value: str) -> str:
    """Return ``value`` so that an override's grammar reads exactly this text."""
    # A run of backslashes counts as escapes only before a quote.
    head = value.rstrip("\\")
    tail = value[len(head) :] * 2
    parts = head.split("'")
    escaped = [part + "\\" * (len(part) - len(part.rstrip("\\"))) for part in parts[:-1]]
    return "'" + "\\'".join([*escaped, parts[-1]]) + tail + "'"


def unquoted(value: str) -> str:
    """Return ``value`` without the quotes around it."""
    quoted = len(value) >= 2 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value
