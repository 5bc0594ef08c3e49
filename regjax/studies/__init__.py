"""Studies: many trials searched, compared at equal budget, confirmed on fresh seeds, reported."""
