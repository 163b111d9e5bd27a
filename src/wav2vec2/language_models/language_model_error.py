"""The one error of the language-model files and of their training."""


class LanguageModelError(ValueError):
    """A language model, or the text it should come from, that cannot be used, and why."""
