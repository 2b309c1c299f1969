"""The one place that says what is taken where nothing is named."""

BACKBONE = "pocket"
