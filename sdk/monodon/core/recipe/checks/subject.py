"""What a rule looks at: a recipe as a tree with places, and what is known around it."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from monodon.core.recipe.keys import STEPS
from monodon.core.recipe.model import Recipe
from monodon.core.recipe.nodes import Entries, Items, Node, Place, Scalar, child
from monodon.core.semver import Version

OWN_VARIABLE = re.compile(r"(?<!\$)\{([.\w-]+):([^:}]*)\}", re.ASCII)
FOREIGN_VARIABLE = re.compile(r"(?<!\$)\{([.\w-]+):([.\w-]+):([^:}]*)\}", re.ASCII)
#: Asks a registry, such as AWS's, for the versions that it has of a component.
Published = Callable[[str], Collection[Version]]
_STEP_NAMES = {name.lower(): name for name in STEPS}


class Part(NamedTuple):
    """A node with its JSON pointer."""

    node: Node
    pointer: str


class Step(NamedTuple):
    """One lifecycle step: its canonical name, its key, and what stands behind it (a script or a map)."""

    name: str
    key: Scalar
    node: Node
    pointer: str

    @property
    def script(self) -> Scalar | None:
        """The script's text, if there is any."""
        node = self.node.get("Script") if isinstance(self.node, Entries) else self.node
        return node if isinstance(node, Scalar) and node.value is not None else None

    def get(self, key: str) -> Node | None:
        """Return the value of one of the step's own keys, in any case."""
        return self.node.get(key) if isinstance(self.node, Entries) else None


class Variable(NamedTuple):
    """A use of a recipe variable: ``component`` is None for this component's own."""

    text: str
    component: str | None
    namespace: str
    key: str
    part: Part


@dataclass(kw_only=True, eq=False, repr=False)
class Subject:
    """A recipe under check.

    Attributes:
        neighbours: recipes of other components that are known, by name.
        code: the component's Python source by file name, if it is known.
        published: where to ask for the versions of other components, if anywhere.
    """

    root: Entries
    text: str
    recipe: Recipe | None = None
    is_template: bool = False
    neighbours: Mapping[str, tuple[Recipe, ...]] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    published: Published | None = None

    # --- places ---

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(match.end() for match in re.finditer("\n", self.text))]

    def find(self, node: Node, needle: str) -> Place | None:
        """Return where ``needle`` stands in the source of a scalar, or None if it is escaped or folded there."""
        line, column = node.at
        start = self._line_starts[min(line, len(self._line_starts)) - 1] + column - 1
        length = len(node.text) * 2 + 400 if isinstance(node, Scalar) else 400
        position = self.text.find(needle, start, start + length)
        if position < 0:
            return None
        before = self.text.count("\n", 0, position)
        return before + 1, position - self._line_starts[before] + 1

    # --- the parts of a recipe; each is empty when it is missing or of a wrong type ---

    def top(self, name: str) -> Node | None:
        """Return the value of a top-level key, in any case."""
        return self.root.get(name)

    @cached_property
    def name(self) -> str:
        """The component's name, as far as it can be read."""
        node = self.root.get("ComponentName")
        return node.text if isinstance(node, Scalar) else ""

    @cached_property
    def manifests(self) -> tuple[tuple[Entries, str], ...]:
        """Every manifest that is a map, with its pointer."""
        key, node = self.root.key("Manifests"), self.root.get("Manifests")
        if key is None or not isinstance(node, Items):
            return ()
        base = child("", key.text)
        return tuple((one, child(base, index)) for index, one in enumerate(node.items) if isinstance(one, Entries))

    @cached_property
    def configuration(self) -> Part | None:
        """DefaultConfiguration, if it is a map."""
        outer_key, outer = self.root.key("ComponentConfiguration"), self.root.get("ComponentConfiguration")
        if outer_key is None or not isinstance(outer, Entries):
            return None
        key, inner = outer.key("DefaultConfiguration"), outer.get("DefaultConfiguration")
        if key is None or not isinstance(inner, Entries):
            return None
        return Part(inner, child(child("", outer_key.text), key.text))

    @cached_property
    def dependencies(self) -> tuple[tuple[Scalar, Entries, str], ...]:
        """Each dependency's key, map and pointer."""
        key, node = self.root.key("ComponentDependencies"), self.root.get("ComponentDependencies")
        if key is None or not isinstance(node, Entries):
            return ()
        base = child("", key.text)
        return tuple((name, one, child(base, name.text)) for name, one in node.entries if isinstance(one, Entries))

    @cached_property
    def dependency_names(self) -> frozenset[str]:
        """The names of all dependencies."""
        return frozenset(name.text for name, _, _ in self.dependencies)

    @cached_property
    def artifacts(self) -> tuple[tuple[Entries, str, int], ...]:
        """Each artifact's map, pointer, and the index of its manifest."""
        found = []
        for index, (manifest, pointer) in enumerate(self.manifests):
            key, node = manifest.key("Artifacts"), manifest.get("Artifacts")
            if key is None or not isinstance(node, Items):
                continue
            base = child(pointer, key.text)
            found += [(one, child(base, i), index) for i, one in enumerate(node.items) if isinstance(one, Entries)]
        return tuple(found)

    @cached_property
    def lifecycles(self) -> tuple[tuple[Entries, str, int | None], ...]:
        """Each lifecycle that is a map: the manifests' own by index, and the global one with None."""
        found: list[tuple[Entries, str, int | None]] = []
        for index, (manifest, pointer) in enumerate(self.manifests):
            key, node = manifest.key("Lifecycle"), manifest.get("Lifecycle")
            if key is not None and isinstance(node, Entries):
                found.append((node, child(pointer, key.text), index))
        key, node = self.root.key("Lifecycle"), self.root.get("Lifecycle")
        if key is not None and isinstance(node, Entries):
            found.append((node, child("", key.text), None))
        return tuple(found)

    @cached_property
    def keywords(self) -> frozenset[str]:
        """The words that select parts of the global lifecycle: all manifests' Selections, and ``all``."""
        words = {"all"}
        for manifest, _ in self.manifests:
            node = manifest.get("Selections")
            if isinstance(node, Items):
                words |= {item.text for item in node.items if isinstance(item, Scalar)}
        return frozenset(words)

    @cached_property
    def step_maps(self) -> tuple[tuple[Entries, str, bool], ...]:
        """Every map whose keys are step names, with its pointer; whether it is a part of the global lifecycle."""
        found: list[tuple[Entries, str, bool]] = []
        for lifecycle, pointer, index in self.lifecycles:
            waiting = [(lifecycle, pointer)]
            while waiting:
                node, at = waiting.pop(0)
                if index is None and any(key.text in self.keywords for key, _ in node.entries):
                    waiting += [(one, child(at, key.text)) for key, one in node.entries if isinstance(one, Entries)]
                else:
                    found.append((node, at, index is None))
        return tuple(found)

    @cached_property
    def steps(self) -> tuple[Step, ...]:
        """Every step of every lifecycle; one that is selected stands once for each selection."""
        found = []
        for node, pointer, is_global in self.step_maps:
            for key, value in node.entries:
                name = _STEP_NAMES.get(key.text.lower())
                if name is None:
                    continue
                at = child(pointer, key.text)
                if is_global and isinstance(value, Entries) and self._is_selecting(value):
                    found += [Step(name, word, one, child(at, word.text)) for word, one in value.entries]
                else:
                    found.append(Step(name, key, value, at))
        return tuple(found)

    def _is_selecting(self, node: Entries) -> bool:
        return any(key.text in self.keywords for key, _ in node.entries)

    @cached_property
    def scripts(self) -> tuple[tuple[Step, Scalar], ...]:
        """Every step that has a script, with it."""
        return tuple((step, step.script) for step in self.steps if step.script is not None)

    @cached_property
    def environments(self) -> tuple[tuple[Entries, str], ...]:
        """Every Setenv that is a map: of a lifecycle and of steps."""
        found = []
        for node, pointer, _ in self.step_maps:
            found += _setenv(node, pointer)
        for step in self.steps:
            if isinstance(step.node, Entries):
                found += _setenv(step.node, step.pointer)
        return tuple(found)

    @cached_property
    def variables(self) -> tuple[Variable, ...]:
        """Every use of a variable in the lifecycles, in order of writing."""
        return tuple(variable for part in self.lifecycle_texts for variable in variables_in(part))

    @cached_property
    def lifecycle_texts(self) -> tuple[Part, ...]:
        """Every scalar of the lifecycles that is not a key."""
        return tuple(part for lifecycle, pointer, _ in self.lifecycles for part in texts(lifecycle, pointer))

    @cached_property
    def configuration_texts(self) -> tuple[Part, ...]:
        """Every scalar of the default configuration that is not a key."""
        return tuple(texts(*self.configuration)) if self.configuration else ()

    @cached_property
    def access_control(self) -> Part | None:
        """``accessControl`` of the default configuration, whatever it is."""
        if self.configuration is None or not isinstance(self.configuration.node, Entries):
            return None
        for key, node in self.configuration.node.entries:
            if key.text.lower() == "accesscontrol":
                return Part(node, child(self.configuration.pointer, key.text))
        return None

    @cached_property
    def policies(self) -> tuple[tuple[Scalar, Scalar, Entries, str], ...]:
        """Each policy's service key, id key, map and pointer."""
        part = self.access_control
        if part is None or not isinstance(part.node, Entries):
            return ()
        found = []
        for service, policies in part.node.entries:
            if isinstance(policies, Entries):
                base = child(part.pointer, service.text)
                for name, policy in policies.entries:
                    if isinstance(policy, Entries):
                        found.append((service, name, policy, child(base, name.text)))
        return tuple(found)


def _setenv(node: Entries, pointer: str) -> list[tuple[Entries, str]]:
    key, found = node.key("Setenv"), node.get("Setenv")
    return [(found, child(pointer, key.text))] if key is not None and isinstance(found, Entries) else []


def texts(node: Node, pointer: str) -> Iterator[Part]:
    """Yield every scalar below a node that is not a key."""
    if isinstance(node, Scalar):
        yield Part(node, pointer)
    elif isinstance(node, Items):
        for index, item in enumerate(node.items):
            yield from texts(item, child(pointer, index))
    else:
        for key, value in node.entries:
            yield from texts(value, child(pointer, key.text))


def variables_in(part: Part) -> Iterator[Variable]:
    """Yield the variables in one text."""
    if not isinstance(part.node, Scalar) or "{" not in part.node.text:
        return
    for match in OWN_VARIABLE.finditer(part.node.text):
        yield Variable(match[0], None, match[1], match[2], part)
    for match in FOREIGN_VARIABLE.finditer(part.node.text):
        yield Variable(match[0], match[1], match[2], match[3], part)
