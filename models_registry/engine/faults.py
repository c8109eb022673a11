"""What can be wrong with an engine. Each text says what happened and what to do next."""


class EngineFault(Exception):
    """An engine cannot be used; `str()` is a sentence for the operator."""


class EngineMissing(EngineFault):
    """No llama-server was found. Handled by compose: the console says so, the API answers 503."""


class EngineBroken(EngineFault):
    """A llama-server is there and does not run."""


class InstallFailed(EngineFault):
    """An engine could not be installed; whatever was there before is still there."""
