"""The software's version: one place, read by the parser, the status and the announcements."""

VERSION = "0.1.0"
