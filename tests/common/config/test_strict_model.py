from __future__ import annotations

import pickle
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BeforeValidator, Field

from common.config.field_types import (
    Count,
    DistinctTexts,
    FilePath,
    OneOf,
    OptionalPath,
    PrivacyDelta,
    Sha256,
    ZeroOr,
    invalid,
)
from common.config.strict_model import StrictModel, flatten
from common.errors import PolicyError, UsageError


class Inner(StrictModel):
    min_rank: Count = 0
    share: float = Field(default=0.5, ge=0, le=1)
    on: bool = False
    text: Annotated[str, Field(max_length=5)] = ""


class Outer(StrictModel):
    inner: Inner = Field(default_factory=Inner)
    items: Annotated[tuple[Inner, ...], Field(strict=False)] = ()
    by_name: dict[str, Inner] = Field(default_factory=dict)
    names: DistinctTexts = ()
    kind: Annotated[str, OneOf(("mean", "median"))] = "mean"
    noise: Annotated[float, ZeroOr(0.1, 1000)] = 0.0
    delta: PrivacyDelta = 0.1
    digest: Sha256 = "0" * 64
    file: FilePath = Path("/data")
    other: OptionalPath = None


class Required(StrictModel):
    until: str = Field(examples=["YYYY-MM-DD"])
    rest: str = Field(alias="section.rest")


HUGE = 16**5000


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"min-rank": True}}, "inner.min-rank must be a whole number, got True"),
        ({"inner": {"min-rank": "1"}}, "inner.min-rank must be a whole number, got '1'"),
        ({"inner": {"min-rank": 1.0}}, "inner.min-rank must be a whole number, got 1.0"),
        ({"inner": {"min-rank": -1}}, "inner.min-rank must be at least 0, got -1"),
        ({"inner": {"min-rank": 2**63}}, "must be at most 9,223,372,036,854,775,807, got 9223"),
        ({"inner": {"min-rank": HUGE}}, "got a value too long to show"),
        ({"inner": {"share": True}}, "inner.share must be a number, got True"),
        ({"inner": {"share": "0.5"}}, "inner.share must be a number, got '0.5'"),
        ({"inner": {"share": float("nan")}}, "inner.share must be a number, got nan"),
        ({"inner": {"share": float("-inf")}}, "inner.share must be a number, got -inf"),
        ({"inner": {"share": HUGE}}, "inner.share must be a number, got a value too long"),
        ({"inner": {"share": 1.5}}, "inner.share must be from 0 to 1, got 1.5"),
        ({"inner": {"on": 1}}, "inner.on must be true or false, got 1"),
        ({"inner": {"on": "true"}}, "inner.on must be true or false, got 'true'"),
        ({"inner": {"text": 3}}, 'inner.text must be a text in "quotes", got 3'),
        ({"inner": {"text": "x" * 6}}, "inner.text must be text of at most 5 characters"),
        ({"inner": {"min_rank": 1}}, "inner.min_rank is unknown; did you mean 'min-rank'?"),
        ({"inner": {"min_rank": 1, "min-rank": 1}}, "inner.min_rank is unknown; did you mean"),
        ({"inner": {"zzz": 1}}, "inner.zzz is unknown; known are: min-rank, share, on, text"),
        ({"innr": {}, "kind": "x"}, "innr is unknown; did you mean 'inner'?"),
        ({"items": [{}, {"shar": 1}]}, "items[1].shar is unknown; did you mean 'share'?"),
        ({"by-name": {"a": {"shar": 1}}}, "by-name.a.shar is unknown; did you mean 'share'?"),
        ({"inner": 3}, "inner must be a table [inner]"),
        ({"inner": [{}]}, "inner must be a table [inner]"),
        ({"items": {}}, "items must be tables, each headed [[items]]"),
        ({"by-name": 3}, "by-name must be a table [by-name]"),
        ({"names": "one"}, "names must be a list of texts"),
        ({"names": ["one", 2]}, "names[1] must be a text"),
        ({"names": ["one", "one"]}, "names names one thing twice"),
        ({"names": [""]}, "none of them empty"),
        ({"kind": "media"}, "unknown kind 'media'; did you mean 'median'? known are: mean, median"),
        ({"kind": 1}, "kind must be a text"),
        ({"noise": 0.01}, "noise must be 0, or from 0.1 to 1,000, got 0.01"),
        ({"noise": -9.9e-123}, "noise must be 0, or from 0.1 to 1,000, got -9.9e-123"),
        ({"delta": 1}, "delta must be between 0 and 1, both excluded, got 1"),
        ({"digest": "A" * 64}, "digest must be a digest, 64 of 0-9 a-f"),
        ({"file": ""}, "file must not be empty"),
        ({"file": 3}, "file must be a text"),
        ({"other": False}, "other must be a text"),
    ],
)
def test_invalid_values_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError) as error:
        Outer.load(values, PolicyError, "policy.toml")
    assert message in str(error.value)
    assert str(error.value).startswith("policy.toml: ")


def test_a_missing_key_is_named_with_an_example() -> None:
    with pytest.raises(UsageError, match=r'^until is missing; add the line: until = "YYYY-MM-DD"$'):
        Required.load({})
    with pytest.raises(UsageError, match=r"^section\.rest is missing$"):
        Required.load({"until": "x"})
    with pytest.raises(UsageError, match=r"section\.rst is unknown; did you mean 'section.rest'"):
        Required.load({"section.rst": "x"})


@given(
    st.dictionaries(
        st.sampled_from(["inner", "names", "kind", "digest", "file"]) | st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda children: st.lists(children) | st.dictionaries(st.text(), children),
            max_leaves=5,
        ),
    )
)
def test_every_error_is_one_short_printable_line(values: dict[str, Any]) -> None:
    message = "valid"
    try:
        Outer.load(values)
    except UsageError as error:
        message = str(error)
    assert message.isprintable()
    assert len(message) < 1000


@pytest.mark.parametrize("key", ["x" * 10_000, "line\nbreak", "\x1b[31mred", "\u202e"])
def test_a_key_is_shown_in_one_line(key: str) -> None:
    for values in ({key: 1}, {"inner": {key: 1}}, {"by-name": {key: {"min-rank": "x" * 10_000}}}):
        with pytest.raises(UsageError) as error:
            Outer.load(values)
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 800


def test_what_is_valid_is_kept_as_it_is() -> None:
    values = {"inner": {"min-rank": 3, "share": 1}, "names": ["a"], "file": "x", "other": ""}
    model = Outer.load(values, folder=Path("/etc"))
    assert (model.inner.min_rank, model.names, model.other) == (3, ("a",), None)
    assert isinstance(model.inner.share, float)
    assert model.file == Path("/etc/x")
    assert pickle.loads(pickle.dumps(model)) == model
    assert hash(model.inner) == hash(Inner(min_rank=3, share=1.0))


def test_the_names_of_a_choice_keep_what_is_annotated_before_them() -> None:
    class Choice(StrictModel):
        level: Annotated[str, BeforeValidator(lambda text: text.lower()), OneOf(("low", "high"))]
        dtype: Annotated[Literal["int8"], OneOf(("int8",))] = "int8"

    assert Choice.load({"level": "LOW"}).level == "low"
    with pytest.raises(UsageError, match="unknown level 'LOWS'; did you mean 'low'"):
        Choice.load({"level": "LOWS"})
    with pytest.raises(UsageError, match="unknown dtype 'int9'; did you mean 'int8'"):
        Choice.load({"level": "low", "dtype": "int9"})


def test_a_changed_copy_is_validated() -> None:
    model = Outer()
    assert model.replace(kind="median").kind == "median"
    assert model.replace(inner=model.inner.replace(min_rank=2)).inner.min_rank == 2
    for changes in ({"kind": "mode"}, {"knd": "mean"}, {"file": ""}):
        with pytest.raises(UsageError, match=next(iter(changes))):
            model.replace(**changes)
    with pytest.raises(ValueError, match="frozen"):
        model.kind = "median"


def test_dotted_keys_are_not_quoted_ones() -> None:
    values = {"a": {"x": 1, "y.z": 2}, "a.x": 3, "b": {"x": 4}}
    assert flatten(values, ["a"]) == {"a.x": 1, "a.y.z": 2, '"a.x"': 3, "b": {"x": 4}}
    with pytest.raises(type(invalid("")), match="invalid"):
        flatten({"a": 1}, ["a"])
