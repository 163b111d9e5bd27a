"""How to install this package, as cards tell it, and which version of it speaks."""

from importlib.metadata import PackageNotFoundError, metadata

from wav2vec2.evaluation.provenance import versions

#: Stands for the address of the repository where the package's metadata names none.
_UNKNOWN = "<repository>"


def install_command() -> str:
    """From the repository. The bare name would install whatever somebody else publishes under it.

    >>> install_command().startswith("pip install git+")
    True
    """
    return f"pip install git+{_repository()}"


def package() -> str:
    """Its name and version.

    >>> package().startswith("wav2vec2 ")
    True
    """
    return f"wav2vec2 {versions().get('wav2vec2', '(not installed: its version is not known)')}"


def _repository() -> str:
    """The address that the metadata of the installed package has as its repository or source."""
    try:
        urls = metadata("wav2vec2").get_all("Project-URL") or []
    except PackageNotFoundError:  # run from a source folder that was never installed
        return _UNKNOWN
    named = dict(url.split(", ", 1) for url in urls)
    return next((named[label] for label in ("Repository", "Source") if label in named), _UNKNOWN)
