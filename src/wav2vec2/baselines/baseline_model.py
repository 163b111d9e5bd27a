"""What all models to compare with share: audio goes in, and a checkpoint is whole or refused."""

from typing import Any

from transformers.modeling_utils import PreTrainedModel

from wav2vec2.modeling.loading import Source, load_checked


class BaselineModel(PreTrainedModel):
    """A model of Transformers that loads as strictly as wav2vec 2.0 does here."""

    main_input_name = "input_values"
    input_modalities = "audio"

    #: Names or prefixes of parameters that a checkpoint need not have; see `wav2vec2.modeling.loading`.
    fresh_parts: tuple[str, ...] = ()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Source, *model_args: Any, **kwargs: Any) -> Any:
        """As in Transformers; but `CheckpointError` is raised for a damaged file and for a tensor that is missing or
        misshapen, and the log says what starts afresh and what is not used."""
        if model_args:
            raise TypeError("from_pretrained takes keywords after the name")
        with_info = kwargs.pop("output_loading_info", False)
        model, info = load_checked(super().from_pretrained, pretrained_model_name_or_path, cls.fresh_parts, **kwargs)
        return (model, info) if with_info else model

    def get_input_embeddings(self) -> None:
        """Audio has no embedding table."""
        return
