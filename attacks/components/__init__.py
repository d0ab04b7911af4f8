"""Parts for TextAttack's recipes: what stands in for its own resources, and what it lacks."""
