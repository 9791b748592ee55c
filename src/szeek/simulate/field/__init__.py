"""A field of a survey from the ground: a part of the simulated sky at the survey's own resolution."""
