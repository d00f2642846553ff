"""The figures' colours: Okabe and Ito's, told apart also by those who see fewer.

Each is drawn as a colour of its own and written as a CSS variable, so that the page chooses it
anew for a dark screen and for paper.
"""

INK, MUTED, GRID, SURFACE, ON_HEAT = "#111213", "#606770", "#dfe3e8", "#fdfdfc", "#fefeff"
BLUE, VERMILLION, GREEN, ORANGE = "#0072b2", "#d55e00", "#009e73", "#e69f00"
PURPLE, SKY, GREY, HEAT = "#cc79a7", "#56b4e9", "#7a818b", "#0a6cad"

VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    SURFACE: "var(--surface)",
    ON_HEAT: "var(--on-heat)",
    BLUE: "var(--blue)",
    VERMILLION: "var(--vermillion)",
    GREEN: "var(--green)",
    ORANGE: "var(--orange)",
    PURPLE: "var(--purple)",
    SKY: "var(--sky)",
    GREY: "var(--grey)",
    HEAT: "var(--heat)",
}

SERIES = (VERMILLION, BLUE, GREEN, PURPLE, ORANGE, SKY, GREY, INK)
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">", "h")
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
