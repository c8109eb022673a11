"""What stops a bundle from being made."""


class BundleFailed(Exception):
    """Nothing was left behind; the text says what happened and what to do. Shown by `bundle.main`."""
