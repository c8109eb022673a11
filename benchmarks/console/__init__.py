"""The console in figures: transfer, first paint, frames and memory of a page, the cost of open tabs."""
