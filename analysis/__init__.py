"""Statistics of cohorts and trials: estimates, never simulations and never pictures."""
