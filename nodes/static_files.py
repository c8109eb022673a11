"""Static files under hashed names, inside the ES modules too, with gzip beside each.

Django's storage rewrites `import` paths only when told to; without it a module would import its
neighbours under names that are not cached for ever, and a new version could mix with an old one.
"""

from whitenoise.storage import CompressedManifestStaticFilesStorage


class HashedStaticFiles(CompressedManifestStaticFilesStorage):  # type: ignore[misc]
    """Whitenoise's storage, with the imports of ES modules rewritten."""

    support_js_module_import_aggregation = True
    manifest_strict = False
