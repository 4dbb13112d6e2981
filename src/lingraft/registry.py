"""Methods that a recipe chooses by name.

A `Choice` is a frozen pydantic model that holds the settings of a method and implements it. A
`Registry` holds all choices of one kind. A recipe contains `mean`, or `{mean: {weights:
characters}}`. Both become the registered class, and a dumped recipe contains the second form.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import EntryPoint, entry_points
from math import isfinite
from typing import Annotated, Any, ClassVar, Generic, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from lingraft.errors import RecipeError, did_you_mean, one_line, shown


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys.

    A class may accept short forms. Reading a recipe and setting a single setting of it
    (`recipe.overrides`) use the same definition of them: `long_form`, `homes`, `replaced_by` and
    `without_replaced`.
    """

    # A number that is not finite has no form in JSON: recipe.yaml and run.json would hold null.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    written: ClassVar[str] = ""
    """The short forms in words, for messages: `'20M tokens' or '1 MB'`."""
    left_out: ClassVar[str] = ""
    """The field whose settings may also be written one level above, if it has one entry."""
    short_settings: ClassVar[type[Settings] | None] = None
    """The settings of short forms that the long form does not have, such as the name of a plan."""
    later: ClassVar[tuple[str, ...]] = ()
    """Settings that older recipes do not have. They are left out of a dump where they have their
    default, so that the keys of finished stages stay."""

    @classmethod
    def long_form(cls, value: Any) -> Any:
        """Return the mapping of fields that a short form stands for; others are returned as is."""
        return value

    @classmethod
    def homes(cls, name: str, values: Mapping[str, Any]) -> tuple[tuple[str | int, ...], ...]:
        """Return the places in the long form of a name that is not a field, none if it has none.

        `values` are the settings in which the name was written.
        """
        del name, values
        return ()

    @classmethod
    def replaced_by(cls, name: str) -> Collection[str]:
        """Return the settings that setting `name` replaces, because they exclude each other."""
        del name
        return ()

    @classmethod
    def without_replaced(
        cls, name: str, value: Any, values: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[str]]:
        """Return `values` without what setting `name` to `value` replaces.

        Also return the names of settings that are lost although `value` does not set them, for a
        warning.
        """
        del value
        replaced = cls.replaced_by(name)
        return {key: inner for key, inner in values.items() if key not in replaced}, []

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        for name in self.later:
            if getattr(self, name) == type(self).model_fields[name].default:
                values.pop(name, None)
        return values

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_what_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `seed: true`, which pydantic would read as 1, and infinite sizes in bytes."""
        annotation: Any = cls.model_fields[str(info.field_name)].annotation
        types = _types_in(annotation)
        values = value if isinstance(value, list) else [value]
        is_number = bool not in types and any(issubclass(kind, int | float) for kind in types)
        if is_number and any(isinstance(one, bool) for one in values):
            kind = "int_type"
            raise PydanticCustomError(kind, "a boolean is not a number")
        if is_number and any(isinstance(one, float) and not isfinite(one) for one in values):
            kind = "finite_number"
            off = "; to set no limit, give null" if type(None) in types else ""
            raise PydanticCustomError(kind, f"not a finite number{off}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _read_short_form(cls, value: Any) -> Any:
        return value if isinstance(value, cls) else cls.long_form(value)


@cache
def _types_in(annotation: Any) -> frozenset[Any]:
    """Return the classes in an annotation, those of a union or list included."""
    inner = [_types_in(part) for part in get_args(annotation)]
    own = [annotation] if isinstance(annotation, type) else []
    return frozenset(own).union(*inner)


class Choice(Settings):
    """A method with its settings; `name` is its name in recipes, `reference` cites its source."""

    name: ClassVar[str]
    reference: ClassVar[str] = ""
    is_registered: ClassVar[bool] = False
    """Whether recipes may name this class; its subclasses are not registered with it."""

    def chosen(self) -> dict[str, Any]:
        """Return the form in recipes: `{name: settings}`, including nested choices."""
        return {self.name: self.model_dump(mode="json")}


C = TypeVar("C", bound=Choice)

_CODE: dict[str, dict[str, str]] = {}
"""Hashes of the source of registered methods that are not lingraft's own: name -> kind -> hash."""


def code_of_methods(settings: Any) -> dict[str, dict[str, str]]:
    """Return the hashes of the source of methods that are not lingraft's own, in plain settings.

    The versions of stages say when the code of lingraft changes. Nothing says it of other code.
    """
    if isinstance(settings, Mapping):
        found = {name: dict(_CODE[name]) for name in settings if name in _CODE}
        inner: Iterable[Any] = settings.values()
    else:
        found, inner = {}, settings if isinstance(settings, list | tuple) else ()
    for value in inner:
        found |= code_of_methods(value)
    return found


def _code_of(cls: type[Choice]) -> str:
    """Return the hash of the source of a module, or of a class of a script or a notebook."""
    # Python finds the source of functions in the cells of a notebook, but not that of classes.
    parts = [_function_in(member) for member in vars(cls).values()]
    # A script has the second name in the processes that it starts.
    if cls.__module__ not in {"__main__", "__mp_main__"} and cls.__module__ in sys.modules:
        parts = [sys.modules[cls.__module__]]
    source = ""
    for part in parts:
        with suppress(OSError, TypeError):  # no file, as for code that a program made
            source += inspect.getsource(part)
    return sha256(source.encode()).hexdigest()[:20]


def _function_in(member: Any) -> Any:
    """Return the function of a property or of a static, class or cached method."""
    for name in ("__func__", "fget", "func"):
        member = getattr(member, name, member)
    return member


class Registry(Generic[C]):
    """All choices of one kind, found by name; each is derived from `base`.

    Other packages add choices with the entry point group `lingraft.KIND` (underscores for spaces).
    Every use of a registry raises `RecipeError` while an installed package has one that fails.
    """

    def __init__(self, kind: str, base: type[Choice]) -> None:
        self.kind = kind
        self._base = base
        self._classes: dict[str, type[C]] = {}
        self._entry_points_read = False

    def register(self, cls: type[C]) -> type[C]:
        """Add a class under its `name` (a decorator).

        A class that is defined again, as by a cell of a notebook that runs again, replaces itself.
        Raises `TypeError` for a class of another kind, or without a method of its kind.
        """
        if problem := self._no_method(cls):
            msg = f"{cls.__qualname__} {problem}"
            raise TypeError(msg)
        known = self._classes.get(cls.name, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            msg = f"two methods of kind {self.kind!r} are called {cls.name!r}"
            raise ValueError(msg)
        self._classes[cls.name] = cls
        cls.is_registered = True
        if cls.__module__.partition(".")[0] != __package__:
            # Now, because the file may change while the class in memory stays.
            _CODE.setdefault(cls.name, {})[self.kind] = _code_of(cls)
        return cls

    def _all(self) -> dict[str, type[C]]:
        if not self._entry_points_read:
            for point in entry_points(group=f"lingraft.{self.kind.replace(' ', '_')}"):
                self._read(point)
            self._entry_points_read = True
        return self._classes

    def _read(self, point: EntryPoint) -> None:
        """Register the method of another package; raises `RecipeError` for one that fails."""
        package = point.dist.name if point.dist else point.module
        where = f"package {package}: entry point {point.name} = {point.value}"
        try:
            cls = point.load()
        except Exception as error:  # whatever the code of another package raises
            reason = one_line(error)
            msg = f"{where}: cannot be loaded ({reason}); correct, upgrade or remove the package"
            raise RecipeError(msg) from error
        problem = ""
        if not isinstance(cls, type):
            problem = f"is no method, but a {type(cls).__name__}"
        elif reason := self._no_method(cls):
            problem = reason
        elif (name := getattr(cls, "name", None)) != point.name:
            problem = f"is called {name!r}, and its entry point must be too"
        elif self._classes.get(point.name, cls) is not cls:
            problem = f"two methods are called {point.name!r}"
        if problem:
            msg = f"{where}: {problem}; correct or remove the package"
            raise RecipeError(msg)
        self.register(cls)

    def _no_method(self, cls: type) -> str:
        """Return why a class is no method of this kind, "" if it is one."""
        if not issubclass(cls, self._base):
            base = f"{self._base.__module__}.{self._base.__qualname__}"
            return f"is not {_article(self.kind)} {self.kind}; these are derived from {base}"
        missing = sorted(getattr(cls, "__abstractmethods__", ()))
        return f"does not define {', '.join(missing)}" if missing else ""

    def __iter__(self) -> Iterator[type[C]]:
        return iter(self._all().values())

    def names(self) -> list[str]:
        """Return the known names, in the order of registration."""
        return list(self._all())

    def __getitem__(self, name: str) -> type[C]:
        """Return the class called `name`; raises `RecipeError` with the nearest known name."""
        try:
            return self._all()[name]
        except KeyError:
            msg = f"there is no {self.kind} called {name!r}; {did_you_mean(name, self._all())}"
            raise RecipeError(msg) from None

    def parse(self, value: object) -> C:
        """Read `name`, `{name: settings}` or a finished choice."""
        if isinstance(value, Choice):
            return value  # type: ignore[return-value]  # the annotation of the field checks the class
        if isinstance(value, str):
            return self[value]()
        if isinstance(value, dict) and len(value) == 1:
            name, settings = next(iter(value.items()))
            return self[str(name)].model_validate(settings if settings is not None else {})
        msg = (
            f"{shown(value)} is not {_article(self.kind)} {self.kind}; give a name or "
            "{name: settings}; known: "
            f"{', '.join(self.names())}"
        )
        raise RecipeError(msg)

    def annotation(self, base: type[C]) -> Any:
        """Return the pydantic annotation of a field that holds one of these choices."""
        # Without the serialiser pydantic dumps only the fields of the base class. The settings of
        # the subclass would be lost, and two different recipes would have the same key.
        serialise: Callable[[C], dict[str, Any]] = lambda choice: choice.chosen()  # noqa: E731
        return Annotated[base, BeforeValidator(self._parse_field), PlainSerializer(serialise)]

    def _parse_field(self, value: object) -> C:
        try:
            return self.parse(value)
        except RecipeError as error:
            # pydantic collects a ValueError and reports it with the path of the setting.
            raise ValueError(str(error)) from error


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"
