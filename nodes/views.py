"""The console's pages and its small HTTP API."""
