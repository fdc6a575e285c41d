"""Who set a key, and who tried: nucleus.md 5.5, C1 to C4, explained."""

from hypothesis import given, settings
from hypothesis import strategies as st

from monodon.core.configuration import EMPTY, Configuration, ConfigurationUpdate, resolve
from monodon.core.json import Json
from monodon.core.origins import MOST_LOST, Attempt, Origin, Setter, deployed, pointer_of, written


class Component:
    """One component's configuration and its origins, over deployments and its own writes."""

    def __init__(self) -> None:
        self.configuration: Configuration = EMPTY
        self.origins: dict[str, Origin] = {}

    def deploy(
        self,
        at_ms: int,
        defaults: dict[str, Json],
        version: str = "1.0.0",
        *,
        reset: tuple[str, ...] = (),
        **merge: Json,
    ) -> None:
        update = ConfigurationUpdate(merge=merge or None, reset=reset)
        resolved = resolve(self.configuration, defaults, update, at_ms=at_ms)
        live = self.configuration.replace(resolved.value(), at_ms=at_ms)
        self.origins = deployed(
            self.origins, self.configuration, live, defaults=defaults, version=version, update=update,
            deployment_id=f"d{at_ms}", at_ms=at_ms,
        )  # fmt: skip
        self.configuration = live

    def write(self, at_ms: int, **merge: Json) -> None:
        after = self.configuration.merge((), merge, at_ms=at_ms)
        self.origins = written(self.origins, self.configuration, after)
        self.configuration = after


def test_each_key_tells_who_set_it() -> None:
    one = Component()
    one.deploy(10, {"a": 1, "b": {"c": 2}}, d=3)
    one.write(20, e=4)
    assert one.origins == {
        "/a": Origin(setter=Setter.DEFAULT, of="1.0.0", at_ms=10),
        "/b/c": Origin(setter=Setter.DEFAULT, of="1.0.0", at_ms=10),
        "/d": Origin(setter=Setter.DEPLOYMENT, of="d10", at_ms=10),
        "/e": Origin(setter=Setter.COMPONENT, at_ms=20),
    }
    one.deploy(30, {"a": 1, "b": {"c": 2}})
    assert one.origins["/a"].at_ms == 10
    assert one.origins["/d"].of == "d10"


def test_a_changed_default_that_does_not_arrive_is_told(  # C1, and n/issues/1470
) -> None:
    one = Component()
    one.deploy(10, {"a": 1, "A": 1})
    one.deploy(20, {"a": 2, "b": 3}, "1.1.0")
    assert one.configuration.value() == {"a": 1, "b": 3}
    lost = Attempt(setter=Setter.DEFAULT, of="1.1.0", at_ms=20, value=2)
    assert one.origins["/a"] == Origin(setter=Setter.DEFAULT, of="1.0.0", at_ms=10, lost=(lost,))
    assert one.origins["/b"].of == "1.1.0"
    one.deploy(30, {"a": 2, "b": 3}, "1.1.0", reset=("/a",))
    assert one.origins["/a"] == Origin(setter=Setter.DEFAULT, of="1.1.0", at_ms=30)


def test_a_merge_that_is_older_than_the_value_loses_and_is_remembered() -> None:  # C3, n/issues/1765
    one = Component()
    one.deploy(10, {"a": 1})
    one.write(100, a=9)
    for at_ms in range(20, 20 + MOST_LOST + 2):
        one.deploy(at_ms, {"a": 1}, a=at_ms)
    assert one.configuration.value() == {"a": 9}
    assert one.origins["/a"].setter is Setter.COMPONENT
    assert [attempt.of for attempt in one.origins["/a"].lost] == ["d22", "d23", "d24"]
    one.deploy(50, {"a": 1}, a=9)
    assert [attempt.of for attempt in one.origins["/a"].lost] == ["d22", "d23", "d24"]
    one.deploy(200, {"a": 1}, a=10)
    assert one.origins["/a"] == Origin(setter=Setter.DEPLOYMENT, of="d200", at_ms=200)


def test_a_reset_that_came_too_late_lost_its_default() -> None:  # C4
    one = Component()
    one.deploy(10, {"a": 1})
    one.write(100, a=9)
    one.deploy(50, {"a": 1}, reset=("/a",))
    assert one.configuration.value() == {"a": 9}
    assert one.origins["/a"].lost == (Attempt(setter=Setter.DEFAULT, of="1.0.0", at_ms=50, value=1),)


def test_the_other_spelling_is_the_same_key_and_null_is_a_value() -> None:
    one = Component()
    one.deploy(10, {"message": "x"}, Message=None)
    assert one.configuration.value() == {"message": None}
    assert one.origins == {"/message": Origin(setter=Setter.DEPLOYMENT, of="d10", at_ms=10)}


VALUES = st.recursive(st.integers(0, 2), lambda inner: st.dictionaries(st.sampled_from("abC"), inner, max_size=3))
MAPS = st.dictionaries(st.sampled_from("aAbc"), VALUES, max_size=3)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.booleans(), MAPS, MAPS, st.lists(st.sampled_from(["", "/a", "/b/a"]))),
        max_size=6,
    )
)
def test_every_leaf_has_an_origin_and_nothing_else_has(
    moves: list[tuple[int, bool, dict[str, Json], dict[str, Json], list[str]]],
) -> None:
    one = Component()
    for at_ms, is_deployment, merge, defaults, reset in moves:
        if is_deployment:
            one.deploy(at_ms, defaults, f"{at_ms}.0.0", reset=tuple(reset), **merge)
        else:
            one.write(at_ms, **merge)
        assert set(one.origins) == {pointer_of(path).lower() for path, _, _ in one.configuration.leaves()}
        for origin in one.origins.values():
            assert Origin.from_record(origin.to_record()) == origin
