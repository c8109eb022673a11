"""Projections of the running node for the admin and for history."""
