"""One file that sets a like machine up with no network: what `make bundle` makes, and its installer."""
