"""The metadata on top of a model card: made from what was measured, and checked before the Hub does.

The Hub reads it to list, filter and run a model; it refuses some mistakes and silently ignores the others, so all of
them are errors here. Format: https://huggingface.co/docs/hub/model-cards and the `model-index` of
https://github.com/huggingface/hub-docs/blob/main/modelcard.md.
"""

import difflib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

# The words that the Hub knows, as of November 2026. huggingface_hub has no such lists, and the Hub's own check, which
# `push` asks, needs the network: these find a misspelled word before, without it. A licence that is newer than the list
# is refused here until it is added; `other`, with license_name and license_link, stands for any.
_FIELDS = """
language license license_name license_link library_name tags datasets metrics base_model base_model_relation
pipeline_tag model-index model_name new_version thumbnail widget inference co2_eq_emissions extra_gated_prompt
extra_gated_fields extra_gated_heading extra_gated_description extra_gated_button_content extra_gated_eu_disallowed
"""
_LICENCES = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m afl-3.0
artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0
cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl open-mdw
openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown other
"""
_TWO_LETTERS = """
aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es
et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj
kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv
ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw ta te tg th
ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""

#: The fields of a model's metadata.
_KNOWN_FIELDS = frozenset(_FIELDS.split())
#: The identifiers of licences, https://huggingface.co/docs/hub/repositories-licenses.
_KNOWN_LICENCES = frozenset(_LICENCES.split())
#: ISO 639-1, and the Hub's own words; codes of three letters (639-2, 639-3) are too many to list.
_KNOWN_LANGUAGES = frozenset(_TWO_LETTERS.split()) | {"multilingual", "code"}

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?")
_PARTS: dict[str, tuple[set[str], set[str]]] = {
    "task": ({"type"}, {"name"}),
    "dataset": ({"type", "name"}, {"config", "split", "revision", "args"}),
    "metric": ({"type", "value"}, {"name", "config", "args", "verified", "verifyToken"}),
    "source": ({"url"}, {"name"}),
}


def read_metadata(card: str) -> dict[str, Any]:
    """The YAML block of a card; a card without one, or with one that is no mapping, is a ValueError."""
    matched = re.match(r"\s*---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|$)", card, re.DOTALL)
    if matched is None:
        raise ValueError("no metadata: a card begins with a block of YAML between two lines of ---")
    try:
        content = yaml.load(matched[1], Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        raise ValueError(f"the metadata is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"the metadata is a {type(content).__name__}: must be fields with values")
    return content


def metadata_problems(card: str) -> list[str]:
    """What is wrong with the metadata of a card, one line for each thing; an empty list if nothing is."""
    try:
        data = read_metadata(card)
    except ValueError as error:
        return [str(error)]
    found = []
    for name in data:
        if name not in _KNOWN_FIELDS:
            near = difflib.get_close_matches(str(name), _KNOWN_FIELDS, 1)
            found.append(f"{name}: no such field" + (f"; {near[0]}?" if near else ""))
    for check in (_licence, _languages, _library, _datasets, _lists, _model_index):
        found += check(data)
    return found


def _licence(data: Mapping[str, Any]) -> Iterator[str]:
    licence = data.get("license")
    if licence is None:
        yield "license: missing; say under which licence others may use the model, such as apache-2.0 or cc-by-4.0"
    elif not isinstance(licence, str) or licence not in _KNOWN_LICENCES:
        near = difflib.get_close_matches(str(licence).lower(), _KNOWN_LICENCES, 1)
        hint = f"{near[0]}?" if near else "or other, with license_name and license_link"
        yield f"license: {licence!r} is no identifier of the Hub; {hint}"
    elif licence == "other" and not data.get("license_name"):
        yield "license: other needs license_name, and license_link to its text"


def _languages(data: Mapping[str, Any]) -> Iterator[str]:
    languages = data.get("language", [])
    for language in languages if isinstance(languages, list) else [languages]:
        if not is_language(language):
            yield (
                f"language: {language!r} is no code of ISO 639 in small letters, such as en or swh"
                + (" (YAML reads no as false: write 'no')" if language is False else "")
            )


def is_language(code: object) -> bool:
    """Whether it is a code that the Hub takes: ISO 639-1, -2 or -3, or one of its own words."""
    if not isinstance(code, str):
        return False
    return code in _KNOWN_LANGUAGES or re.fullmatch(r"[a-z]{3}", code) is not None


def _library(data: Mapping[str, Any]) -> Iterator[str]:
    if data.get("library_name") != "transformers":
        yield (
            f"library_name: {data.get('library_name')!r}; must be transformers, or pipeline(model=...) does not know "
            "how to load the model"
        )
    tag = data.get("pipeline_tag")
    if tag is not None and not (isinstance(tag, str) and re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", tag)):
        yield f"pipeline_tag: {tag!r} is no task such as automatic-speech-recognition"


def _datasets(data: Mapping[str, Any]) -> Iterator[str]:
    for field in ("datasets", "base_model"):
        names = data.get(field, [])
        for name in names if isinstance(names, list) else [names]:
            if not isinstance(name, str) or not _HUB_ID.fullmatch(name):
                yield f"{field}: {name!r} is no name on the Hub, such as user/name"


def _lists(data: Mapping[str, Any]) -> Iterator[str]:
    for field in ("tags", "metrics"):
        value = data.get(field, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            yield f"{field}: must be a list of words"


def _model_index(data: Mapping[str, Any]) -> Iterator[str]:
    index = data.get("model-index", [])
    if not isinstance(index, list):
        yield "model-index: must be a list"
        return
    for number, model in enumerate(index):
        place = f"model-index[{number}]"
        if not isinstance(model, dict) or not isinstance(model.get("name"), str):
            yield f"{place}: needs a name"
        elif not isinstance(model.get("results"), list) or not model["results"]:
            yield f"{place}: needs results"
        else:
            for position, result in enumerate(model["results"]):
                yield from _result(result, f"{place}.results[{position}]")


def _result(result: object, place: str) -> Iterator[str]:
    if not isinstance(result, dict):
        yield f"{place}: must have task, dataset and metrics"
        return
    for name in sorted(map(str, result.keys() - {"task", "dataset", "metrics", "source"})):
        yield f"{place}.{name}: no such field"
    yield from _part(result.get("task"), "task", f"{place}.task")
    yield from _part(result.get("dataset"), "dataset", f"{place}.dataset")
    if "source" in result:
        yield from _part(result["source"], "source", f"{place}.source")
    metrics = result.get("metrics")
    if not isinstance(metrics, list) or not metrics:
        yield f"{place}.metrics: must be a list of metrics"
        return
    for number, metric in enumerate(metrics):
        yield from _part(metric, "metric", f"{place}.metrics[{number}]")


def _part(part: object, kind: str, place: str) -> Iterator[str]:
    needed, allowed = _PARTS[kind]
    if not isinstance(part, dict):
        yield f"{place}: must have {', '.join(sorted(needed))}"
        return
    yield from (f"{place}.{name}: missing" for name in sorted(needed - part.keys()))
    yield from (f"{place}.{name}: no such field" for name in sorted(map(str, part.keys() - needed - allowed)))
    for name, value in part.items():
        if name == "value":
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                yield f"{place}.value: {value!r} is no number"
        elif name in ("type", "name", "config", "split", "revision", "url") and not isinstance(value, str):
            yield f"{place}.{name}: {value!r} must be text"


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a field may be there once: readers keep the last of two, and nobody sees the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping, whose keys differ."""
        content: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} is no name of a field", key_node.start_mark
                )
            if key in content:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is there twice", key_node.start_mark)
            content[key] = self.construct_object(value_node, deep=deep)
        return content
